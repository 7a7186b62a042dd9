//! Checks that one pipeline's topics make no loop, and mix nothing that their readers could not tell apart.

use super::file::File;
use super::stage::TransformSettings;
use super::value::Setting;
use super::{feedback, input, output};

#[derive(Clone, Copy)]
enum Role {
    Input,
    TransformOutput,
    Output,
    DeadLetters,
    Labels,
    Scores,
}

/// Why one topic cannot have both roles, which come in the enum's order; `None` when it can.
fn reason(one: Role, other: Role, has_feedback: bool) -> Option<&'static str> {
    use Role::{DeadLetters, Input, Labels, Output, Scores, TransformOutput};
    match (one, other) {
        (Input, Input) => Some("name it once"),
        (Input, TransformOutput | Output | DeadLetters | Scores) => {
            Some("the pipeline would read what it writes, without end")
        }
        (TransformOutput | Output | DeadLetters, Labels) | (Labels, Scores) => {
            Some("the pipeline would write its own ground truth")
        }
        (TransformOutput | Output, DeadLetters) | (DeadLetters, Scores) => {
            Some("dead letters need a topic of their own")
        }
        (TransformOutput | Output, Scores) => Some("scores need a topic of their own"),
        (TransformOutput, Output) if has_feedback => {
            Some("[feedback] reads predictions there, and a transform's output is none")
        }
        // A labelled stream may be its own labels; outputs of two transforms may flow together.
        (Input, Labels) | (TransformOutput, TransformOutput | Output) => None,
        // Other pairs do not occur: each role but the first two has one topic, and they come in this order.
        _ => None,
    }
}

pub(super) fn check(
    file: &File<'_>,
    input: Option<&input::InputSettings>,
    transforms: &[TransformSettings],
    output: Option<&output::OutputSettings>,
    dead_letters: Option<&Setting<String>>,
    feedback: Option<&feedback::FeedbackSettings>,
) {
    let mut uses: Vec<(Role, &str, &Setting<String>)> = Vec::new();
    let inputs = input.into_iter().flat_map(|input| &input.topics);
    uses.extend(inputs.map(|topic| (Role::Input, "[input] topics", topic)));
    let outputs = transforms.iter().flat_map(|transform| &transform.outputs);
    uses.extend(outputs.map(|(_, key, topic)| (Role::TransformOutput, key.as_str(), topic)));
    uses.extend(output.map(|output| (Role::Output, "[output] topic", &output.topic)));
    uses.extend(dead_letters.map(|topic| (Role::DeadLetters, "[errors] dead_letters", topic)));
    uses.extend(feedback.map(|feedback| (Role::Labels, "[feedback] labels", &feedback.labels)));
    uses.extend(feedback.map(|feedback| (Role::Scores, "[feedback] scores", &feedback.scores)));

    for (number, one) in uses.iter().enumerate() {
        for other in uses.iter().skip(number + 1).filter(|other| other.2.value == one.2.value) {
            if let Some(reason) = reason(one.0, other.0, feedback.is_some()) {
                clash(file, (one.1, one.2), (other.1, other.2), reason);
            }
        }
    }
}

/// Reports a topic with two roles, at the later of its two places, or at the only one that is in the file.
fn clash(file: &File<'_>, one: (&str, &Setting<String>), other: (&str, &Setting<String>), reason: &str) {
    let ((key, topic), (elsewhere, there)) = match (&one.1.at, &other.1.at) {
        (Some(first), Some(second)) if first.start > second.start => (one, other),
        (Some(_), None) => (one, other),
        _ => (other, one),
    };
    let line = there.at.as_ref().map_or("by default".to_owned(), |at| format!("line {}", file.line(at)));
    if let Some(at) = &topic.at {
        let message = format!("{} is {elsewhere} too ({line}): {reason}", topic.shown);
        file.mistake(at, key, message);
    }
}
