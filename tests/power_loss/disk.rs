//! A disk as POSIX has it: of a file there is what was synced, and of a folder the names that were synced. All that came
//! after may be there or not, whatever else is: the order in which it was written means nothing. A file's sync is not one
//! of its name.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::calls::Call;

/// Of what was not synced.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// As when only the process dies.
    Nothing,
    Everything,
    /// The names came to the disk, and no content.
    Contents,
    /// The names and the lengths came to the disk, and zeros.
    ToZeros,
    /// Each name, and each file, for itself.
    ByChance(u64),
}

type Id = usize;

enum Node {
    File {
        now: Vec<u8>,
        synced: Vec<u8>,
    },
    Folder {
        now: BTreeMap<String, Id>,
        synced: BTreeMap<String, Id>,
        /// What changed since, in its order.
        changes: Vec<(String, Option<Id>)>,
    },
}

/// The first node is the folder that everything stands in.
pub struct Disk(Vec<Node>);

/// What is found when the power is back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Left {
    folders: BTreeMap<String, Left>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Default for Disk {
    fn default() -> Self {
        Self(vec![folder()])
    }
}

fn folder() -> Node {
    Node::Folder { now: BTreeMap::new(), synced: BTreeMap::new(), changes: Vec::new() }
}

impl Disk {
    pub fn apply(&mut self, call: &Call) -> Result<()> {
        match call {
            Call::MakeFolder(path) => {
                let made = self.add(folder());
                self.set(path, Some(made))?;
            }
            Call::Open { file, empties } => match self.find(file) {
                Some(found) if *empties => self.file(found)?.clear(),
                Some(_) => {}
                None => {
                    let made = self.add(Node::File { now: Vec::new(), synced: Vec::new() });
                    self.set(file, Some(made))?;
                }
            },
            Call::Write { file, at, bytes } => {
                let found = self.find(file).context("no such file")?;
                let content = self.file(found)?;
                content.resize(content.len().max(at + bytes.len()), 0);
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Call::Sync { path } => {
                let found = self.find(path).context("no such file")?;
                match &mut self.0[found] {
                    Node::File { now, synced } => synced.clone_from(now),
                    Node::Folder { now, synced, changes } => {
                        synced.clone_from(now);
                        changes.clear();
                    }
                }
            }
            Call::Rename { from, to } => {
                let found = self.find(from).context("no such file")?;
                self.set(to, Some(found))?;
                self.set(from, None)?;
            }
            Call::Remove(path) => self.set(path, None)?,
            Call::Said(_) => {}
        }
        Ok(())
    }

    fn add(&mut self, node: Node) -> Id {
        self.0.push(node);
        self.0.len() - 1
    }

    fn find(&self, path: &Path) -> Option<Id> {
        path.iter().try_fold(0, |id, name| match &self.0[id] {
            Node::Folder { now, .. } => now.get(name.to_str()?).copied(),
            Node::File { .. } => None,
        })
    }

    fn file(&mut self, id: Id) -> Result<&mut Vec<u8>> {
        match &mut self.0[id] {
            Node::File { now, .. } => Ok(now),
            Node::Folder { .. } => bail!("a folder is written to"),
        }
    }

    fn set(&mut self, path: &Path, id: Option<Id>) -> Result<()> {
        let parent = self.find(path.parent().context("the folder itself")?).context("no such folder")?;
        let name = path.file_name().and_then(|name| name.to_str()).context("no name")?.to_owned();
        let Node::Folder { now, changes, .. } = &mut self.0[parent] else { bail!("a file is no folder") };
        match id {
            Some(id) => now.insert(name.clone(), id),
            None => now.remove(&name),
        };
        changes.push((name, id));
        Ok(())
    }

    pub fn left(&self, loss: Loss) -> Left {
        let mut random = Random(match loss {
            Loss::ByChance(seed) => seed,
            _ => 0,
        });
        // A file that stands under two names is lost or kept once.
        let mut contents = BTreeMap::new();
        self.left_of(0, loss, &mut random, &mut contents)
    }

    fn left_of(&self, id: Id, loss: Loss, random: &mut Random, contents: &mut BTreeMap<Id, Vec<u8>>) -> Left {
        let Node::Folder { now, synced, changes } = &self.0[id] else { return Left::default() };
        let names = match loss {
            Loss::Everything => synced.clone(),
            Loss::Nothing | Loss::Contents | Loss::ToZeros => now.clone(),
            Loss::ByChance(_) => {
                let mut names = synced.clone();
                for (name, id) in changes {
                    match id {
                        _ if random.below(2) == 0 => {}
                        Some(id) => drop(names.insert(name.clone(), *id)),
                        None => drop(names.remove(name)),
                    }
                }
                names
            }
        };
        let mut left = Left::default();
        for (name, child) in names {
            match &self.0[child] {
                Node::Folder { .. } => {
                    let folder = self.left_of(child, loss, random, contents);
                    left.folders.insert(name, folder);
                }
                Node::File { now, synced } => {
                    let content = contents.entry(child).or_insert_with(|| content(now, synced, loss, random));
                    left.files.insert(name, content.clone());
                }
            }
        }
        left
    }
}

fn content(now: &[u8], synced: &[u8], loss: Loss, random: &mut Random) -> Vec<u8> {
    let zeros = || {
        let mut zeros = vec![0; now.len()];
        let kept = synced.len().min(now.len());
        zeros[..kept].copy_from_slice(&synced[..kept]);
        zeros
    };
    let way = match loss {
        Loss::Nothing => 0,
        Loss::Everything | Loss::Contents => 1,
        Loss::ToZeros => 2,
        Loss::ByChance(_) => random.below(4),
    };
    match way {
        0 => now.to_vec(),
        1 => synced.to_vec(),
        2 => zeros(),
        _ => {
            // It came to the disk up to somewhere, and zeros behind it.
            let mut torn = zeros();
            let cut = random.below(now.len() as u64 + 1) as usize;
            torn[..cut].copy_from_slice(&now[..cut]);
            torn
        }
    }
}

impl Left {
    pub fn write(&self, directory: &Path) -> Result<()> {
        std::fs::DirBuilder::new().mode(0o700).create(directory)?;
        for (name, bytes) in &self.files {
            let file = directory.join(name);
            std::fs::write(&file, bytes)?;
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        }
        self.folders.iter().try_for_each(|(name, folder)| folder.write(&directory.join(name)))
    }
}

/// Steele, Lea and Flood's SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound.max(1)
    }
}
