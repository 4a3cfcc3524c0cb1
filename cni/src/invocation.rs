//! What the runtime says in the environment.

use std::path::PathBuf;

use crate::error::{CniError, Code};

/// Longest interface name the kernel takes.
const INTERFACE_MAX: usize = 15;

/// `CNI_COMMAND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

impl Command {
    pub(crate) fn from_environment() -> Result<Self, CniError> {
        Self::parse(std::env::var("CNI_COMMAND").ok().as_deref())
    }

    fn parse(word: Option<&str>) -> Result<Self, CniError> {
        match word {
            Some("ADD") => Ok(Self::Add),
            Some("DEL") => Ok(Self::Del),
            Some("CHECK") => Ok(Self::Check),
            Some("STATUS") => Ok(Self::Status),
            Some("GC") => Ok(Self::Gc),
            Some("VERSION") => Ok(Self::Version),
            Some(other) => {
                let message = format!("CNI_COMMAND is `{}`", other.escape_debug());
                let details = "ADD, DEL, CHECK, STATUS, GC or VERSION";
                Err(CniError::new(Code::Environment, message, details))
            }
            None => {
                let details =
                    "container runtimes call this program; `sinew-cni --help` says how to set one up";
                Err(CniError::new(Code::Environment, "CNI_COMMAND is not set", details))
            }
        }
    }
}

/// One request. What a command does not have is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) command: Command,
    pub(crate) container: String,
    pub(crate) netns: Option<PathBuf>,
    pub(crate) interface: String,
    /// `CNI_ARGS`, in order.
    pub(crate) args: Vec<(String, String)>,
}

impl Invocation {
    /// Reads the environment by `variable`.
    pub(crate) fn from_environment(
        command: Command,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, CniError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let needed = |name: &str| {
            let missing = || CniError::new(Code::Environment, format!("{name} is not set"), "");
            set(name).ok_or_else(missing)
        };
        let one = matches!(command, Command::Add | Command::Del | Command::Check);
        let inside = matches!(command, Command::Add | Command::Check);
        let netns = set("CNI_NETNS").map(PathBuf::from);
        if inside && netns.is_none() {
            return Err(CniError::new(Code::Environment, "CNI_NETNS is not set", ""));
        }
        let invocation = Self {
            command,
            container: if one { needed("CNI_CONTAINERID")? } else { String::new() },
            netns,
            interface: if one { needed("CNI_IFNAME")? } else { String::new() },
            args: args(&set("CNI_ARGS").unwrap_or_default())?,
        };
        invocation.check(one)?;
        Ok(invocation)
    }

    fn check(&self, one: bool) -> Result<(), CniError> {
        let wrong = |name: &str, value: &str| {
            let message = format!("{name} is `{}`", value.escape_debug());
            Err(CniError::new(Code::Environment, message, "the CNI specification does not allow that"))
        };
        let first = |c: char| c.is_ascii_alphanumeric();
        let rest = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if one && !(self.container.starts_with(first) && self.container.chars().all(rest)) {
            return wrong("CNI_CONTAINERID", &self.container);
        }
        let name = &self.interface;
        let usable = |c: char| c.is_ascii_graphic() && !"/:".contains(c);
        if one && (name.len() > INTERFACE_MAX || name == "." || name == ".." || !name.chars().all(usable)) {
            return wrong("CNI_IFNAME", name);
        }
        Ok(())
    }

    /// The value of a key in `CNI_ARGS`.
    pub(crate) fn arg(&self, key: &str) -> Option<&str> {
        let found = self.args.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// `FOO=BAR;ABC=123`.
fn args(text: &str) -> Result<Vec<(String, String)>, CniError> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').ok_or_else(|| {
            let message = format!("CNI_ARGS has `{}`", part.escape_debug());
            CniError::new(Code::Environment, message, "pairs such as KEY=VALUE;KEY=VALUE")
        })?;
        Ok((key.to_owned(), value.to_owned()))
    };
    text.split(';').filter(|part| !part.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: Command, variables: &[(&str, &str)]) -> Result<Invocation, CniError> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Invocation::from_environment(command, &find)
    }

    const WHOLE: [(&str, &str); 4] = [
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web"),
    ];

    #[test]
    fn each_command_needs_what_the_specification_says() {
        let whole = read(Command::Add, &WHOLE).unwrap();
        assert_eq!((whole.arg("K8S_POD_NAME"), whole.arg("x")), (Some("web"), None));
        for (command, missing, fine) in [
            (Command::Add, "CNI_NETNS", false),
            (Command::Add, "CNI_IFNAME", false),
            (Command::Add, "CNI_CONTAINERID", false),
            (Command::Check, "CNI_NETNS", false),
            (Command::Del, "CNI_NETNS", true),
            (Command::Del, "CNI_CONTAINERID", false),
            (Command::Add, "CNI_ARGS", true),
        ] {
            let rest: Vec<_> = WHOLE.into_iter().filter(|(name, _)| *name != missing).collect();
            assert_eq!(read(command, &rest).is_ok(), fine, "{command:?} without {missing}");
        }
        assert!(read(Command::Gc, &[]).is_ok() && read(Command::Status, &[]).is_ok());
        assert_eq!(Command::parse(Some("DELETE")).unwrap_err().code, Code::Environment);
        assert!(Command::parse(None).unwrap_err().details.contains("--help"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for (name, value) in [
            ("CNI_CONTAINERID", "../x"),
            ("CNI_CONTAINERID", "-x"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", "an-interface-name"),
            ("CNI_IFNAME", ".."),
            ("CNI_ARGS", "X"),
        ] {
            let mut variables = WHOLE;
            variables.iter_mut().filter(|(known, _)| *known == name).for_each(|pair| pair.1 = value);
            assert_eq!(read(Command::Add, &variables).unwrap_err().code, Code::Environment, "{name}={value}");
        }
    }
}
