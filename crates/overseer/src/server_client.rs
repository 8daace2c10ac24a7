use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::cli::Settings;
use crate::config::Config;
use crate::{Failure, layers};

const ANSWER_BYTES_MAX: usize = 256 << 20;
const TIMEOUT: Duration = Duration::from_secs(120);

/// A running server, as commands speak to it.
pub(crate) struct ServerClient {
    url: String,
    token: Option<String>,
}

impl ServerClient {
    /// The server at `url`, or the one that the configuration is for.
    pub(crate) fn new(settings: &Settings, config: &Config, url: Option<&str>) -> Result<Self, Failure> {
        // a token from the configuration is for the server it configures, not for any that is named
        let token_file = if url.is_some() {
            &settings.token_file
        } else {
            &config.token_file
        };
        let token = match token_file {
            Some(file) => Some(layers::text_named_by("token_file", file)?.trim().to_owned()),
            None => None,
        };
        let url = match url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", local(&config.listen)),
        };
        Ok(ServerClient { url, token })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The body of the answer, whatever its status.
    pub(crate) fn send(&self, method: Method, path: &str, form: String) -> Result<Vec<u8>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::failed(format!("cannot start: {e}")))?;
        let (url, address) = (&self.url, format!("{}{path}", self.url));
        runtime
            .block_on(async {
                tokio::time::timeout(TIMEOUT, send(method, &address, form, self.token.as_deref())).await
            })
            .map_err(|_| Failure::failed(format!("{url} did not answer within {} s", TIMEOUT.as_secs())))?
    }

    /// The `data` of a successful answer.
    pub(crate) fn call(&self, method: Method, path: &str) -> Result<Value, Failure> {
        self.call_with(method, path, String::new())
    }

    /// The same with a form.
    pub(crate) fn call_with(&self, method: Method, path: &str, form: String) -> Result<Value, Failure> {
        let body = self.send(method, path, form)?;
        let mut answer: Value = serde_json::from_slice(&body)
            .map_err(|_| Failure::failed(format!("{} did not answer with JSON; is it Overseer?", self.url)))?;
        if answer["status"] == "success" {
            return Ok(answer["data"].take());
        }
        Err(Failure::failed(format!(
            "{}: {}",
            answer["errorType"].as_str().unwrap_or("error"),
            answer["error"].as_str().unwrap_or("the server gave no reason")
        )))
    }
}

/// The listen address as this machine reaches it.
fn local(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("0.0.0.0" | "[::]", port)) => format!("127.0.0.1:{port}"),
        _ => listen.to_owned(),
    }
}

pub(crate) fn encode(form: &[(&str, String)]) -> String {
    let mut out = String::new();
    for (name, value) in form {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        for b in value.bytes() {
            if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
                out.push(char::from(b));
            } else {
                out.push_str(&format!("%{b:02X}"));
            }
        }
    }
    out
}

async fn send(method: Method, url: &str, form: String, token: Option<&str>) -> Result<Vec<u8>, Failure> {
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(|e| Failure::failed(format!("the system's certificates cannot be read: {e}")))?
        .https_or_http()
        .enable_http1()
        .build();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let mut request = Request::builder()
        .method(method)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request
        .body(Full::from(form))
        .map_err(|e| Failure::misuse(format!("--url {url:?} is no address: {e}")))?;
    let unreachable = |e: &dyn std::error::Error| {
        let cause = e.source().map(|s| format!(": {s}")).unwrap_or_default();
        Failure::failed(format!(
            "{url} cannot be reached ({e}{cause}); is Overseer running there?"
        ))
    };
    let response = client.request(request).await.map_err(|e| unreachable(&e))?;
    let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|e| Failure::failed(format!("the answer of {url} cannot be read: {e}")))?;
    Ok(body.to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded() {
        assert_eq!(
            encode(&[("query", "a{b=\"c d\"}".into())]),
            "query=a%7Bb%3D%22c%20d%22%7D"
        );
    }
}
