use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use bytes::Bytes;
use host::Host;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::cli::Settings;
use crate::config::Config;
use crate::data_dir::{self, LOCK, Running};
use crate::{Failure, layers};

const ANSWER_BYTES_MAX: usize = 256 << 20;
const TIMEOUT: Duration = Duration::from_secs(120);
/// How often the server is told that its snapshot is still needed: it deletes one of which it hears nothing for an hour.
const RENEW_EVERY: Duration = Duration::from_secs(5 * 60);

/// A running server, as commands speak to it.
pub(crate) struct ServerClient {
    url: String,
    token: Option<String>,
    /// The directory that it has to be the server of, and by what that is recognised.
    meant: Option<(PathBuf, String)>,
}

/// Who has the files of a data directory.
pub(crate) enum Files {
    Server(ServerClient),
    /// Nobody uses the directory.
    AtRest(PathBuf),
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
        Ok(ServerClient {
            url,
            token,
            meant: None,
        })
    }

    /// For commands that read answers only. A directory on the command line says which server is meant, wherever it
    /// listens.
    pub(crate) fn of_answers(
        host: &Host,
        settings: &Settings,
        config: &Config,
        url: Option<&str>,
    ) -> Result<Self, Failure> {
        match &settings.data_dir {
            Some(dir) => ServerClient::of_directory(host, settings, config, url, dir),
            None => ServerClient::new(settings, config, url),
        }
    }

    /// For commands that read files: the server of the directory that is configured, or at the address that is said,
    /// or the directory itself where nobody uses it. A directory and an address that are both given belong together, or
    /// the server refuses.
    pub(crate) fn of_files(
        host: &Host,
        settings: &Settings,
        config: &Config,
        url: Option<&str>,
    ) -> Result<Files, Failure> {
        let named = config.data_dir.is_some();
        if !named && (url.is_some() || settings.listen.is_some()) {
            return ServerClient::new(settings, config, url).map(Files::Server);
        }
        if !named && config.listen != Config::default().listen {
            // an address was configured, and no directory: what answers there is meant
            let server = ServerClient::new(settings, config, url)?;
            if server.send(Method::GET, "/livez", String::new()).is_ok() {
                return Ok(Files::Server(server));
            }
        }
        let path = config.data_dir.clone().unwrap_or_else(data_dir::default_path);
        if !host.files.exists(&path) {
            return Err(Failure::misuse(format!(
                "{}: there is no such data directory{}",
                path.display(),
                data_dir::not_named(config)
            )));
        }
        match host.files.lock(&path.join(LOCK)) {
            Ok(free) => drop(free),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                return ServerClient::of_directory(host, settings, config, url, &path).map(Files::Server);
            }
            Err(e) => return Err(Failure::failed(format!("{}: {e}", path.join(LOCK).display()))),
        }
        match url {
            Some(url) => Err(Failure::misuse(format!(
                "{}: no Overseer runs on this data directory, so {url} is the server of another one; leave out one of the two",
                path.display()
            ))),
            None => Ok(Files::AtRest(path)),
        }
    }

    /// The server that uses a directory, at the address on the command line or where it says itself.
    fn of_directory(
        host: &Host,
        settings: &Settings,
        config: &Config,
        url: Option<&str>,
        dir: &Path,
    ) -> Result<Self, Failure> {
        let Some(running) = Running::of(host, dir) else {
            return Err(Failure::failed(format!(
                "{}: no server of this data directory has written down its address: none runs, it is just starting, or \
                 another command uses the directory",
                dir.display()
            )));
        };
        let mut server = ServerClient::new(settings, config, url)?;
        if url.is_none() && settings.listen.is_none() {
            server.url = format!("http://{}", running.address);
        }
        server.meant = Some((dir.to_owned(), running.instance));
        Ok(server)
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
        let instance = self.meant.as_ref().map(|(_, instance)| instance.as_str());
        let (body, recognised) = runtime
            .block_on(async {
                tokio::time::timeout(TIMEOUT, send(method, &address, form, self.token.as_deref(), instance)).await
            })
            .map_err(|_| Failure::failed(format!("{url} did not answer within {} s", TIMEOUT.as_secs())))??;
        match &self.meant {
            Some((dir, _)) if !recognised => Err(Failure::failed(format!(
                "{url} is not the server of {}: nothing was done there",
                dir.display()
            ))),
            _ => Ok(body),
        }
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
            "{}: {}: {}",
            self.url,
            answer["errorType"].as_str().unwrap_or("error"),
            answer["error"].as_str().unwrap_or("the server gave no reason")
        )))
    }

    /// Renews the lease of a snapshot again and again while work is done. A renewal that fails is tried again; work on a
    /// snapshot that is gone fails by itself.
    pub(crate) fn keeping<T>(&self, snapshot: &str, work: impl FnOnce() -> T) -> T {
        let (over, ended) = channel::<()>();
        let renew = move || {
            while ended.recv_timeout(RENEW_EVERY) == Err(RecvTimeoutError::Timeout) {
                let _ = self.call(Method::POST, &format!("/api/v1/admin/snapshots/{snapshot}"));
            }
        };
        std::thread::scope(|scope| {
            if let Err(e) = std::thread::Builder::new()
                .name("renew".into())
                .spawn_scoped(scope, renew)
            {
                crate::terminal::complain(&format!("no thread to renew the snapshot's lease of an hour: {e}"));
            }
            let done = work();
            drop(over);
            done
        })
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

/// The body, and whether the server is the one that is meant.
async fn send(
    method: Method,
    url: &str,
    form: String,
    token: Option<&str>,
    instance: Option<&str>,
) -> Result<(Vec<u8>, bool), Failure> {
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
    if let Some(instance) = instance {
        request = request.header(gateway::INSTANCE, instance);
    }
    let request = request
        .body(Full::from(form))
        .map_err(|e| Failure::misuse(format!("--url {url:?} is no address: {e}")))?;
    let unreachable = |e: &dyn std::error::Error| {
        // the last of the causes is the system's
        let causes = std::iter::successors(e.source(), |e| e.source());
        let cause: String = causes.map(|e| format!(": {e}")).collect();
        Failure::failed(format!(
            "{url} cannot be reached ({e}{cause}); is Overseer running there?"
        ))
    };
    let response = client.request(request).await.map_err(|e| unreachable(&e))?;
    let told = response
        .headers()
        .get(gateway::INSTANCE)
        .map(http::HeaderValue::as_bytes);
    let recognised = told == instance.map(str::as_bytes);
    let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|e| Failure::failed(format!("the answer of {url} cannot be read: {e}")))?;
    Ok((body.to_bytes().to_vec(), recognised))
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
