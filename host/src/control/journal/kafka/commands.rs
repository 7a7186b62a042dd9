//! A command as it stands in the commands' topic: the pipeline's name is its key.

use serde::{Deserialize, Serialize};

use super::{MAX_RECORD, version};
use crate::control::command::{Action, Command, Refused};

#[derive(Serialize)]
struct Written<'a> {
    v: u64,
    #[serde(flatten)]
    command: &'a Command,
}

#[derive(Deserialize)]
struct Versioned {
    v: u64,
}

/// A command's value. Its id is the place at which it will stand.
///
/// # Errors
/// When it is too large for a topic.
pub fn write(command: &Command) -> Result<Vec<u8>, Refused> {
    let bytes = serde_json::to_vec(&Written { v: version(), command })
        .map_err(|error| Refused::Unfit { why: format!("the command cannot be written: {error}") })?;
    if bytes.len() > MAX_RECORD {
        return Err(Refused::LargeCommand { bytes: bytes.len(), most: MAX_RECORD });
    }
    Ok(bytes)
}

/// What a command says.
///
/// # Errors
/// When it is none, or none that a daemon has written.
pub fn read(value: Option<&[u8]>) -> Result<Command, Refused> {
    let foreign = |why: String| Refused::ForeignCommand { why };
    let value = value.ok_or_else(|| foreign("it has no value".into()))?;
    let Versioned { v } = serde_json::from_slice(value).map_err(|error| foreign(error.to_string()))?;
    let known = version();
    if v > known {
        return Err(Refused::LaterCommand { version: v, known });
    }
    let command: Command = serde_json::from_slice(value).map_err(|error| foreign(error.to_string()))?;
    if command.from.is_empty() {
        return Err(foreign("it names no daemon that it comes through".into()));
    }
    let is_a_persons = matches!(
        command.action,
        Action::Deploy { .. }
            | Action::Undo { .. }
            | Action::Promote { .. }
            | Action::Abort { .. }
            | Action::HoldRollout { .. }
            | Action::ContinueRollout { .. }
            | Action::Pause { .. }
            | Action::Resume
            | Action::Replay
    );
    if is_a_persons && command.by.is_none() {
        return Err(foreign("it names nobody who asks for it".into()));
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::command::{By, CommandId};
    use crate::control::rollout::StepFigures;

    fn command(action: Action, by: Option<By>) -> Command {
        Command { id: CommandId(0), from: "eu-1".into(), by, against: None, action }
    }

    #[test]
    fn what_a_daemon_writes_is_read_again() {
        let by = Some(By { who: "admin".into(), from: "192.0.2.7".into() });
        let mut figures = StepFigures::default();
        figures.comparison.challenger_calls.note(std::time::Duration::from_millis(3));
        let measured = Action::Measured { revision: crate::record::Revision::FIRST, figures: Box::new(figures) };
        for command in [
            command(measured, None),
            command(Action::Pause { reason: "lunch".into() }, by),
            command(Action::Staged { of: CommandId(7), owns: true }, None),
        ] {
            assert_eq!(read(Some(&write(&command).unwrap())).unwrap(), command);
        }
    }

    #[test]
    fn what_no_daemon_has_written_is_refused_with_the_reason() {
        let pause = serde_json::to_value(command(Action::Pause { reason: "lunch".into() }, None)).unwrap();
        let with = |key: &str, value: serde_json::Value| {
            let mut object = pause.clone();
            object["v"] = 1.into();
            object[key] = value;
            object.to_string().into_bytes()
        };
        for (value, expected) in [
            (b"resume".to_vec(), "expected value"),
            (b"{}".to_vec(), "missing field `v`"),
            (with("v", 2.into()), "version 2"),
            (with("from", "".into()), "no daemon"),
            (with("action", "explode".into()), "unknown variant"),
            (with("against", 1.into()), "nobody"),
        ] {
            let refused = read(Some(&value)).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
        assert!(read(None).unwrap_err().to_string().contains("no value"));
    }

    #[test]
    fn a_command_that_no_topic_takes_is_refused_before_it_is_sent() {
        let large = command(Action::Pause { reason: "x".repeat(MAX_RECORD) }, None);
        assert!(matches!(write(&large), Err(Refused::LargeCommand { .. })));
    }
}
