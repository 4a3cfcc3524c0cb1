//! Responses that the front makes itself: what failed, in a page for people or a line for programs.

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::Body;

/// A response of ours.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    /// What failed, as a sentence.
    pub(crate) text: &'static str,
    /// Further headers.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Another body than a page: somebody else's words.
    pub(crate) body: Option<Bytes>,
}

impl Page {
    pub(crate) fn new(status: u16, text: &'static str) -> Self {
        Self { status, text, headers: Vec::new(), body: None }
    }

    /// The answer to an HTTP-01 challenge.
    pub(crate) fn challenge(answer: &str) -> Self {
        Self { body: Some(Bytes::from(answer.to_owned())), ..Self::new(200, "") }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        if let Ok(value) = value.try_into() {
            self.headers.push((name, value));
        }
        self
    }

    /// The page for a client that accepts `accept`.
    pub(crate) fn response(mut self, id: &str, asked: &HeaderMap) -> Response<Body> {
        let given = self.body.take();
        let html = wants_html(asked);
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let reason = status.canonical_reason().unwrap_or("Error");
        let text = if html {
            format!(
                "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{status} {reason}</title>\
                 <h1>{reason}</h1><p>{}</p><p><small>{status} · request {id}</small></p></html>\n",
                self.text,
                status = self.status,
            )
        } else {
            format!("{} {reason}: {}\nrequest {id}\n", self.status, self.text)
        };
        let mut response = Response::new(Body::text(given.clone().unwrap_or_else(|| Bytes::from(text))));
        *response.status_mut() = status;
        let kind = if html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
        let headers = response.headers_mut();
        if given.is_none() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::from_str(id) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        headers.extend(self.headers);
        response
    }
}

/// Browsers name HTML; programs name something else, or nothing.
fn wants_html(asked: &HeaderMap) -> bool {
    let accepts = asked.get_all(header::ACCEPT).iter();
    accepts.filter_map(|value| value.to_str().ok()).any(|value| value.contains("text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_html_and_programs_a_line() {
        let mut browser = HeaderMap::new();
        browser.insert(header::ACCEPT, HeaderValue::from_static("text/html,*/*;q=0.8"));
        for (asked, kind) in
            [(browser, "text/html; charset=utf-8"), (HeaderMap::new(), "text/plain; charset=utf-8")]
        {
            let page = Page::new(503, "no backend").with(header::RETRY_AFTER, "2").response("abc", &asked);
            assert_eq!(page.status(), 503);
            assert_eq!(page.headers()[header::CONTENT_TYPE], kind);
            assert_eq!(page.headers()["x-request-id"], "abc");
            assert_eq!(page.headers()[header::RETRY_AFTER], "2");
            let Body::Text(Some(text), _) = page.into_body() else { panic!("no text") };
            let text = String::from_utf8(text.to_vec()).unwrap();
            assert!(text.contains("no backend") && text.contains("abc") && text.contains("503"), "{text}");
        }
    }
}
