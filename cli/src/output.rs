//! Writing answers: tables for people, JSON that stays as it is for scripts.

use std::io::{self, Write as _};

use serde::Serialize;
use sinew_control::{ApiError, Versioned};

use crate::args::Format;

/// How the user wants to see answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    pub(crate) format: Format,
    /// Tables with all columns and whole keys.
    pub(crate) wide: bool,
}

impl Out {
    /// Refuses formats that only `graph` has; called before anything is done.
    pub(crate) fn refuse_pictures(self) -> Result<(), ApiError> {
        match self.format {
            Format::Dot | Format::Svg => {
                Err(ApiError::invalid("only `graph` can be drawn", "use -o table, json or jsonl"))
            }
            _ => Ok(()),
        }
    }

    /// Writes one object.
    pub(crate) fn object<T: Serialize>(
        self,
        body: &T,
        table: impl FnOnce() -> String,
    ) -> Result<(), ApiError> {
        match self.format {
            Format::Json => write(&pretty(body)),
            Format::Jsonl => write(&line(body)),
            _ => write(&table()),
        }
    }

    /// Writes a list: whole as JSON, item by item as JSON lines.
    pub(crate) fn list<T: Serialize, I: Serialize>(
        self,
        body: &T,
        items: &[I],
        table: impl FnOnce() -> String,
    ) -> Result<(), ApiError> {
        match self.format {
            Format::Json => write(&pretty(body)),
            Format::Jsonl => write(&items.iter().map(line).collect::<String>()),
            _ => write(&table()),
        }
    }

    /// Writes an error to stderr, in the format of the answer it stands for.
    pub(crate) fn error(self, error: &ApiError) {
        let text = match self.format {
            Format::Json => pretty(error),
            Format::Jsonl => line(error),
            _ => {
                let mut text = String::new();
                for (i, part) in error.message.lines().enumerate() {
                    text.push_str(&format!("{} {part}\n", if i == 0 { "sinew:" } else { "      " }));
                }
                for part in error.hint.lines() {
                    text.push_str(&format!("       {part}\n"));
                }
                text
            }
        };
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// An object over several lines.
pub(crate) fn pretty<T: Serialize>(body: &T) -> String {
    let text = serde_json::to_string_pretty(&Versioned::new(body))
        .expect("answers are plain structs with string keys");
    text + "\n"
}

/// An object on one line.
pub(crate) fn line<T: Serialize>(body: &T) -> String {
    let text =
        serde_json::to_string(&Versioned::new(body)).expect("answers are plain structs with string keys");
    text + "\n"
}

/// Writes to stdout at once. A reader that has seen enough (`| head`) ends the program quietly.
pub(crate) fn write(text: &str) -> Result<(), ApiError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(ApiError::invalid(format!("cannot write the answer: {error}"), "")),
    }
}

/// A remark beside the answer.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "sinew: {text}");
}
