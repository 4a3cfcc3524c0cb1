//! `[transit]`, and `limit` wherever it stands: what operators let their node carry.

use sinew_types::{Class, Rate};

use super::Transit;
use super::diagnose::Problems;
use super::schema;

/// A bandwidth, if one is given.
pub(super) fn limit(key: &str, text: Option<&str>, problems: &mut Problems<'_>) -> Option<Rate> {
    match text?.parse() {
        Ok(rate) => Some(rate),
        Err(error) => {
            problems.bad_value(key, format!("`{}` {error}", text.unwrap_or_default().escape_debug()));
            None
        }
    }
}

/// Whether the node forwards, from `[node] class` and `[transit] enabled`: either may say no, and then the
/// other must not say yes.
pub(super) fn class(class: Option<&str>, transit: &schema::Transit, problems: &mut Problems<'_>) -> Class {
    let class = match class {
        None | Some("router") => Class::Router,
        Some("stub") => Class::Stub,
        Some(other) => {
            problems.bad_value("node.class", format!("unknown class `{}`", other.escape_debug()));
            Class::Router
        }
    };
    if class == Class::Stub && transit.enabled == Some(true) {
        let remedy = "remove this line, or `class`";
        problems.add("transit.enabled", "this node is a stub, which carries nothing for others", remedy);
    }
    if transit.enabled == Some(false) { Class::Stub } else { class }
}

pub(super) fn transit(raw: &schema::Transit, class: Class, problems: &mut Problems<'_>) -> Transit {
    let limit = limit("transit.limit", raw.limit.as_deref(), problems);
    let enabled = class == Class::Router;
    if raw.limit.is_some() && !enabled {
        problems.add(
            "transit.limit",
            "there is nothing to limit: this node carries nothing for others",
            "remove it",
        );
    }
    Transit { enabled, limit }
}
