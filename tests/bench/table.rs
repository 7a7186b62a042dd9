//! A figure, what it has to reach, and what is printed and kept of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

/// What a figure has to reach, in its unit.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub measured: f64,
    pub goal: Goal,
    /// The same thing against itself, in the figure's unit: what noise alone makes of it.
    pub control: f64,
    /// The absolute numbers behind it.
    pub detail: String,
}

impl Figure {
    fn holds(&self) -> bool {
        match self.goal {
            Goal::AtMost(most) => self.measured <= most,
            Goal::AtLeast(least) => self.measured >= least,
        }
    }

    fn to_reach(&self) -> String {
        match self.goal {
            Goal::AtMost(most) => format!("<= {most} {}", self.unit),
            Goal::AtLeast(least) => format!(">= {least} {}", self.unit),
        }
    }

    fn row(&self) -> String {
        let Figure { name, unit, measured, control, detail, .. } = self;
        let holds = if self.holds() { "yes" } else { "**no**" };
        format!(
            "| {name} | {} {unit} | {} | {holds} | {} {unit} | {detail} |",
            short(*measured),
            self.to_reach(),
            short(*control)
        )
    }
}

/// Two digits behind the point where they say something.
fn short(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[derive(Default)]
pub struct Table(Vec<Figure>);

impl Table {
    /// Adds a figure, and says so.
    pub fn add(&mut self, figure: Figure) {
        println!("{}", figure.row());
        self.0.push(figure);
    }

    /// Prints the whole and keeps it in that file.
    pub fn finish(self, took: Duration, file: &Path) -> Result<()> {
        println!("\n| figure | measured | to reach | holds | control | behind it |\n|---|---|---|---|---|---|");
        self.0.iter().for_each(|figure| println!("{}", figure.row()));
        let list: Vec<_> = (self.0.iter())
            .map(|figure| {
                json!({
                    "figure": figure.name,
                    "measured": figure.measured,
                    "to_reach": figure.to_reach(),
                    "holds": figure.holds(),
                    "control": figure.control,
                })
            })
            .collect();
        fs::write(file, serde_json::to_vec_pretty(&list)?)?;
        println!("\n{} figures in {:.0} s; kept in {}", self.0.len(), took.as_secs_f64(), file.display());
        Ok(())
    }
}
