//! The wanted pointers as a tree, so that one walk over a document serves all of them.

/// A place in the document.
#[derive(Debug)]
pub enum Node {
    /// The value of this column.
    Column(usize),
    /// An object or array, some of whose members are wanted.
    Members(Vec<Member>),
}

#[derive(Debug)]
pub struct Member {
    /// The member's key, or its index as text.
    pub key: String,
    /// The key as an array's index, if it is a number.
    pub index: Option<usize>,
    pub node: Node,
}

impl Default for Node {
    fn default() -> Self {
        Self::Members(Vec::new())
    }
}

impl Node {
    /// Adds a column's pointer.
    pub fn insert(&mut self, pointer: &str, column: usize) -> Result<(), String> {
        let mut keys = pointer.split('/');
        if keys.next() != Some("") {
            return Err(format!("`{pointer}` is no JSON pointer: it must begin with `/`"));
        }
        let mut node = self;
        for key in keys {
            node = node.member(unescape(key)).ok_or_else(|| overlaps(pointer))?;
        }
        match node {
            Self::Members(members) if members.is_empty() => {
                *node = Self::Column(column);
                Ok(())
            }
            _ => Err(overlaps(pointer)),
        }
    }

    /// The node under a key, made if there is none yet; None when this node is a column.
    fn member(&mut self, key: String) -> Option<&mut Node> {
        let Self::Members(members) = self else {
            return None;
        };
        let at = match members.iter().position(|member| member.key == key) {
            Some(at) => at,
            None => {
                members.push(Member { index: key.parse().ok(), key, node: Self::default() });
                members.len() - 1
            }
        };
        members.get_mut(at).map(|member| &mut member.node)
    }
}

/// A key as the document has it: in a pointer `/` is written `~1` and `~` is written `~0` (RFC 6901, section 4).
fn unescape(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

fn overlaps(pointer: &str) -> String {
    format!("`{pointer}` leads to, into or around the value of another column")
}
