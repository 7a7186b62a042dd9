//! The wanted pointers as a tree, so that one walk over a document serves all of them.

/// Pointers by number: each is told by it when its value is read.
#[derive(Clone, Debug, Default)]
pub struct Pointers {
    pub(crate) root: Node,
}

/// A place in the document.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// The value of that pointer.
    Wanted(usize),
    /// An object or array, some of whose members are wanted.
    Members(Vec<Member>),
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// The member's key, or its index as text.
    pub key: String,
    /// The key as an array's index, if it is one.
    pub index: Option<usize>,
    pub node: Node,
}

impl Default for Node {
    fn default() -> Self {
        Self::Members(Vec::new())
    }
}

impl Pointers {
    /// Adds a pointer under its number.
    ///
    /// # Errors
    /// Text that is no pointer, and one that leads to, into or around the value of another.
    pub fn insert(&mut self, pointer: &str, number: usize) -> Result<(), String> {
        let mut keys = pointer.split('/');
        if keys.next() != Some("") {
            return Err(format!("`{pointer}` is no JSON pointer: it must begin with `/`"));
        }
        if !pointer.split('~').skip(1).all(|after| after.starts_with(['0', '1'])) {
            return Err(format!("`{pointer}` is no JSON pointer: a `~` in a name is written ~0, a `/` is written ~1"));
        }
        let mut node = &mut self.root;
        for key in keys {
            node = node.member(unescaped(key)).ok_or_else(|| overlaps(pointer))?;
        }
        match node {
            Node::Members(members) if members.is_empty() => {
                *node = Node::Wanted(number);
                Ok(())
            }
            _ => Err(overlaps(pointer)),
        }
    }
}

impl Node {
    /// The node under a key, made if there is none yet; `None` when this node is a pointer's value.
    fn member(&mut self, key: String) -> Option<&mut Node> {
        let Self::Members(members) = self else {
            return None;
        };
        let at = match members.iter().position(|member| member.key == key) {
            Some(at) => at,
            None => {
                members.push(Member { index: index(&key), key, node: Self::default() });
                members.len() - 1
            }
        };
        members.get_mut(at).map(|member| &mut member.node)
    }
}

/// An array's index: digits, without a leading zero (RFC 6901, section 4).
fn index(key: &str) -> Option<usize> {
    let canonical = key == "0" || key.starts_with(|first: char| ('1'..='9').contains(&first));
    if canonical { key.parse().ok() } else { None }
}

/// A key as the document has it: in a pointer `/` is written `~1` and `~` is written `~0` (RFC 6901, section 4).
fn unescaped(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

fn overlaps(pointer: &str) -> String {
    format!("`{pointer}` leads to, into or around the value of another column")
}
