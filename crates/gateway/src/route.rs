//! From a host and a path to a service. Pure: a table made once, then only read.

use rustc_hash::FxHashMap;

/// Services by host (exact, or one label below a wildcard) and path prefix.
#[derive(Clone, Debug)]
pub(crate) struct Routes<T> {
    exact: FxHashMap<String, Site<T>>,
    wildcard: FxHashMap<String, Site<T>>,
}

/// What one host offers.
#[derive(Clone, Debug)]
pub(crate) struct Site<T> {
    /// The longest prefix first.
    paths: Vec<(String, T)>,
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { exact: FxHashMap::default(), wildcard: FxHashMap::default() }
    }
}

impl<T> Routes<T> {
    /// Adds a route; `false` if the host has this prefix already.
    pub(crate) fn add(&mut self, host: &str, path: &str, to: T) -> bool {
        let (map, name) = match host.strip_prefix("*.") {
            Some(rest) => (&mut self.wildcard, rest),
            None => (&mut self.exact, host),
        };
        let site = map.entry(name.to_ascii_lowercase()).or_insert(Site { paths: Vec::new() });
        let prefix = path.trim_end_matches('/');
        if site.paths.iter().any(|(taken, _)| taken == prefix) {
            return false;
        }
        let at = site.paths.partition_point(|(other, _)| other.len() > prefix.len());
        site.paths.insert(at, (prefix.to_owned(), to));
        true
    }

    /// What a host offers. `host` in the one spelling of [`crate::host`].
    pub(crate) fn site(&self, host: &str) -> Option<&Site<T>> {
        let below = || self.wildcard.get(host.split_once('.')?.1);
        self.exact.get(host).or_else(below)
    }
}

/// Why a path is not routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// No prefix of it is published.
    Unknown,
    /// A backend could take it for another path than we do.
    Ambiguous,
}

impl<T> Site<T> {
    /// The service of a path, as it stands in the request.
    ///
    /// A host whose only route is `/` passes every path byte for byte: whatever the backend makes of
    /// it, it is that backend's. Where the path decides who answers, a path that decodes or
    /// normalises to another is refused: `/public/..%2fadmin` is not for guessing.
    pub(crate) fn service(&self, path: &str) -> Result<&T, NoRoute> {
        match &self.paths[..] {
            [(prefix, service)] if prefix.is_empty() => return Ok(service),
            _ if ambiguous(path) => return Err(NoRoute::Ambiguous),
            _ => {}
        }
        let fits = |prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found = self.paths.iter().find(|(prefix, _)| fits(prefix));
        found.map(|(_, service)| service).ok_or(NoRoute::Unknown)
    }

    /// Any of its services: for what all of a host's services have in common.
    pub(crate) fn first(&self) -> Option<&T> {
        self.paths.first().map(|(_, service)| service)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.paths.iter().map(|(_, service)| service)
    }
}

/// Whether another program could read another path: dot segments, empty segments, backslashes, and
/// any of the characters in question behind percent signs (also twice: `%25`).
fn ambiguous(path: &str) -> bool {
    let bytes = path.as_bytes();
    if !path.starts_with('/') || path.contains("//") || bytes.contains(&b'\\') || bytes.contains(&0) {
        return true;
    }
    let hidden = |at: usize| {
        let code = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        let code = code.filter(|pair| !pair.contains('+')).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        // A percent sign without its digits is read in as many ways as there are programs.
        code.is_none_or(|code| matches!(code, b'/' | b'\\' | b'.' | b'%' | b';' | 0..=31 | 127))
    };
    let escapes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    let dots = |segment: &str| {
        // `..;x` is `..` to servlet containers.
        let name = segment.split(';').next().unwrap_or_default();
        name == "." || name == ".."
    };
    escapes.map(|(at, _)| at).any(hidden) || path.split('/').any(dots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(list: &[(&str, &str, &'static str)]) -> Routes<&'static str> {
        let mut routes = Routes::default();
        list.iter().for_each(|(host, path, to)| assert!(routes.add(host, path, *to)));
        routes
    }

    #[test]
    fn the_closest_host_and_the_longest_prefix_win() {
        let routes = routes(&[
            ("a.example", "/", "root"),
            ("a.example", "/api", "api"),
            ("a.example", "/api/v2/", "v2"),
            ("*.example", "/", "wild"),
            ("b.example", "/only", "only"),
        ]);
        for (host, path, expected) in [
            ("a.example", "/", Ok("root")),
            ("a.example", "/apix", Ok("root")),
            ("a.example", "/api", Ok("api")),
            ("a.example", "/api/", Ok("api")),
            ("a.example", "/api/v2", Ok("v2")),
            ("a.example", "/api/v2/x", Ok("v2")),
            ("a.example", "/api/v22", Ok("api")),
            ("z.example", "/api", Ok("wild")),
            ("b.example", "/only/x", Ok("only")),
            ("b.example", "/", Err(NoRoute::Unknown)),
        ] {
            let found = routes.site(host).unwrap().service(path);
            assert_eq!(found.copied(), expected, "{host}{path}");
        }
        assert!(routes.site("example").is_none());
        assert!(routes.site("x.z.example").is_none());
        let mut again = routes.clone();
        assert!(!again.add("A.example", "/api/", "twice"));
    }

    #[test]
    fn where_paths_decide_tricks_are_refused() {
        let routes = routes(&[("a.example", "/", "root"), ("a.example", "/public", "public")]);
        let site = routes.site("a.example").unwrap();
        for path in [
            "/public/../admin",
            "/public/./x",
            "/public/..",
            "/public//x",
            "//admin",
            "/public/%2e%2e/admin",
            "/public/%2E./admin",
            "/public/..%2fadmin",
            "/public%2Fadmin",
            "/public/..%5cadmin",
            "/public\\..\\admin",
            "/public/..;/admin",
            "/public/%252e%252e/admin",
            "/public/%00",
            "/public/%0d%0a",
            "/public/%",
            "/public/%2",
            "/public/%zz",
            "/public/%+1",
            "*",
        ] {
            assert_eq!(site.service(path), Err(NoRoute::Ambiguous), "{path}");
        }
        for path in ["/public/a%20b", "/public/...", "/public/.well-known", "/public/a;b", "/public/ü"] {
            assert_eq!(site.service(path), Ok(&"public"), "{path}");
        }
    }

    #[test]
    fn where_they_do_not_every_path_goes_through() {
        let routes = routes(&[("a.example", "/", "root")]);
        for path in ["/a/../b", "//x", "/a%2fb", "*", "/%"] {
            assert_eq!(routes.site("a.example").unwrap().service(path), Ok(&"root"), "{path}");
        }
    }
}
