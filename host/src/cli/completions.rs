//! `completions`: a script for the shell.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Outcome};

/// Print the completion script of a shell.
#[derive(Args)]
#[command(after_help = "Example:\n  sandpiper completions bash > ~/.local/share/bash-completion/completions/sandpiper")]
pub struct Completions {
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Outcome {
        super::print(&script(self.shell))?;
        Ok(())
    }
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sandpiper", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_completes_every_verb() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for verb in Cli::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{shell} does not know {}", verb.get_name());
            }
        }
    }

    /// clap checks what it can only find out at run time: clashing flags, defaults that do not parse.
    #[test]
    fn the_command_line_is_sound_and_every_verb_shows_an_example() {
        Cli::command().debug_assert();
        let mut verbs: Vec<clap::Command> = Cli::command().get_subcommands().cloned().collect();
        while let Some(mut verb) = verbs.pop() {
            let inner: Vec<clap::Command> = verb.get_subcommands().cloned().collect();
            if inner.is_empty() && !verb.is_hide_set() {
                let help = verb.render_long_help().to_string();
                assert!(help.contains("sandpiper "), "{} has no example", verb.get_name());
            }
            verbs.extend(inner);
        }
    }
}
