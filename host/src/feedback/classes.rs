//! Lists of class names, each kept once, however many predictions name it.

use std::collections::HashSet;
use std::sync::Arc;

/// A model's classes, in its order.
pub type Classes = Arc<[String]>;

/// The lists that predictions share, and what they take.
#[derive(Default)]
pub struct ClassLists {
    lists: HashSet<Classes>,
    bytes: usize,
}

impl ClassLists {
    /// The one list of these names.
    pub fn share(&mut self, names: Vec<String>) -> Classes {
        if let Some(known) = self.lists.get(names.as_slice()) {
            return known.clone();
        }
        let list: Classes = names.into();
        self.bytes += size(&list);
        self.lists.insert(list.clone());
        list
    }

    /// Memory of all lists, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets a list that nobody else holds besides the caller.
    pub fn release(&mut self, list: &Classes) {
        if Arc::strong_count(list) <= 2 && self.lists.remove(&list[..]) {
            self.bytes -= size(list);
        }
    }

    /// Forgets the lists that nobody else holds.
    pub fn sweep(&mut self) {
        let bytes = &mut self.bytes;
        self.lists.retain(|list| {
            let held = Arc::strong_count(list) > 1;
            if !held {
                *bytes -= size(list);
            }
            held
        });
    }
}

fn size(list: &Classes) -> usize {
    list.iter().map(|name| name.len() + size_of::<String>()).sum::<usize>() + 4 * size_of::<Classes>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_are_one_and_counted_while_somebody_holds_it() {
        let mut lists = ClassLists::default();
        let names = || vec!["cat".to_owned(), "dog".into()];
        let (one, two) = (lists.share(names()), lists.share(names()));
        assert!(Arc::ptr_eq(&one, &two));
        let other = lists.share(vec!["cat".into()]);
        let bytes = lists.bytes();
        drop(one);
        lists.release(&two);
        assert!(lists.bytes() < bytes, "nobody else holds it");
        lists.sweep();
        assert_eq!(lists.bytes(), size(&other));
        drop(other);
        lists.sweep();
        assert_eq!(lists.bytes(), 0);
    }
}
