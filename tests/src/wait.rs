//! Waiting for a condition, never for a length of time.
//!
//! A test says what must become true and by when. The short pause between two looks only keeps
//! the poll from eating a core; no result depends on its length.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL: Duration = Duration::from_millis(10);

/// Looks until `look` yields a value; an error naming `what` after `deadline`.
pub fn value<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("not within {:.1} s: {what}", deadline.as_secs_f64());
        }
        std::thread::sleep(POLL);
    }
}

/// Looks until `look` is true; an error naming `what` after `deadline`.
pub fn until(what: &str, deadline: Duration, mut look: impl FnMut() -> bool) -> Result<()> {
    value(what, deadline, || look().then_some(()))
}

/// Tries until `attempt` succeeds; the last error after `deadline`.
pub fn success<T>(what: &str, deadline: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = None;
    let found = value(what, deadline, || match attempt() {
        Ok(value) => Some(value),
        Err(error) => {
            last = Some(error);
            None
        }
    });
    found.map_err(|timeout| match last {
        Some(error) => error.context(timeout.to_string()),
        None => timeout,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_is_returned_with_its_value() {
        let mut looks = 0;
        let found = value("third look", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn a_condition_that_stays_false_is_named_in_the_error() {
        let error = until("the sky falls", Duration::from_millis(1), || false).unwrap_err();
        assert!(error.to_string().contains("the sky falls"), "{error}");
    }

    #[test]
    fn the_last_failure_is_kept() {
        let error =
            success("work", Duration::from_millis(1), || -> Result<()> { bail!("no bread") }).unwrap_err();
        assert!(format!("{error:#}").contains("no bread"), "{error:#}");
    }
}
