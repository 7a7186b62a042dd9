//! The number of a deployment.

use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// A deployment's number within its pipeline: the first is 1, and it only grows. What has no
/// deployment, such as a feedback loop, has no revision: 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(NonZeroU64);

impl Revision {
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// None for 0.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The one after it.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl std::str::FromStr for Revision {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_revision() {
        assert_eq!(Revision::new(0), None);
        assert_eq!(Revision::new(1), Some(Revision::FIRST));
        assert_eq!((Revision::FIRST.next().get(), Revision::FIRST.next().to_string()), (2, "2".to_owned()));
        assert!(serde_json::from_str::<Revision>("0").is_err());
        assert_eq!(serde_json::to_string(&Revision::FIRST).unwrap(), "1");
    }
}
