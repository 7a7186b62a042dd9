//! What was asked for on the command line.

/// What was asked for.
pub struct Options {
    /// Small enough to see that everything works; the figures mean little.
    pub quick: bool,
    filter: Vec<String>,
}

impl Options {
    pub fn from_args() -> Self {
        let mut options = Options { quick: false, filter: Vec::new() };
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                "--quick" => options.quick = true,
                // Cargo's own.
                "--bench" => {}
                _ => options.filter.push(argument),
            }
        }
        options
    }

    /// Whether a figure of that name was asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|filter| name.contains(filter.as_str()))
    }

    /// `full`, or less when it only has to be seen to work.
    pub fn sized(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}
