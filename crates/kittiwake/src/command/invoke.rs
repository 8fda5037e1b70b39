//! `kittiwake invoke`: call a function as curl would, without knowing its URL.

use crate::cli::InvokeArgs;
use crate::client::Connection;
use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use tokio::net::TcpStream;

/// Runs the command: the body of the answer goes to standard output; a status of 400 or more makes the command fail.
///
/// # Errors
/// When there is no such Service, it is not ready, or the gateway cannot be reached.
pub async fn run(args: InvokeArgs) -> anyhow::Result<ExitCode> {
    let connection = Connection::open(&args.connect).await?;
    let url = url_of(&connection, &args).await?;
    let request = request(&args, &url)?;
    let address = match &args.gateway {
        Some(gateway) => tokio::net::lookup_host(gateway)
            .await
            .ok()
            .and_then(|mut found| found.next()),
        None => address_of(&url).await,
    };
    let address = address
        .ok_or_else(|| anyhow!("cannot find the address of {url}; name the gateway with --gateway"))?;
    let stream = TcpStream::connect(address).await.with_context(|| {
        format!("cannot reach the gateway at {address}; name it with --gateway if it is elsewhere")
    })?;
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .context("the gateway hung up")?;
    let driver = tokio::spawn(driver);
    let response = sender
        .send_request(request)
        .await
        .context("the gateway hung up")?;
    let status = response.status();
    if args.include {
        crate::outln!("{:?} {status}", response.version());
        for (name, value) in response.headers() {
            crate::outln!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
        crate::outln!();
    }
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.with_context(|| format!("the answer broke off; see `kittiwake logs {}`", args.name))?;
        if let Ok(data) = frame.into_data() {
            crate::output::bytes(&data);
        }
    }
    driver.abort();
    if status.is_client_error() || status.is_server_error() {
        eprintln!("HTTP {status}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The URL of the Service, or of one of its tags.
async fn url_of(connection: &Connection, args: &InvokeArgs) -> anyhow::Result<Uri> {
    let name = args.name.strip_prefix("ksvc/").unwrap_or(&args.name);
    let path = format!(
        "/apis/serving.knative.dev/v1/namespaces/{}/services/{name}",
        connection.namespace
    );
    let service = connection.get(&path).await?;
    let url = match &args.tag {
        None => service.pointer("/status/url").and_then(Value::as_str),
        Some(tag) => {
            let traffic = service
                .pointer("/status/traffic")
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let tagged = traffic
                .iter()
                .find(|target| target.get("tag").and_then(Value::as_str) == Some(tag));
            let Some(tagged) = tagged else {
                bail!("service {name} has no tag {tag:?}; see `kittiwake describe {name}`")
            };
            tagged.get("url").and_then(Value::as_str)
        }
    };
    let url = url.ok_or_else(|| anyhow!("service {name} has no URL yet; see `kittiwake describe {name}`"))?;
    url.parse()
        .with_context(|| format!("the service's URL {url:?} is no URL"))
}

/// Where the host of a URL is. `*.localhost` is this machine (RFC 6761 §6.3), whatever the resolver says.
async fn address_of(url: &Uri) -> Option<SocketAddr> {
    let port = url.port_u16().unwrap_or(80);
    let host = url.host()?;
    if host == "localhost" || host.ends_with(".localhost") {
        return Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    tokio::net::lookup_host((host, port)).await.ok()?.next()
}

fn request(args: &InvokeArgs, url: &Uri) -> anyhow::Result<Request<Full<Bytes>>> {
    let data = args.data.as_deref().map(read_data).transpose()?;
    let method = match &args.request {
        Some(method) => Method::from_bytes(method.as_bytes())
            .with_context(|| format!("--request {method:?} is no method"))?,
        None if data.is_some() => Method::POST,
        None => Method::GET,
    };
    let path = if args.path.starts_with('/') {
        args.path.clone()
    } else {
        format!("/{}", args.path)
    };
    let authority = url.authority().map(ToString::to_string).unwrap_or_default();
    let mut request = Request::builder()
        .method(method)
        .uri(&path)
        .header(header::HOST, authority);
    if data.is_some()
        && !args
            .header
            .iter()
            .any(|line| line.to_lowercase().starts_with("content-type:"))
    {
        request = request.header(
            header::CONTENT_TYPE,
            guess_type(data.as_deref().unwrap_or_default()),
        );
    }
    for line in &args.header {
        let (name, value) = line
            .split_once(':')
            .with_context(|| format!("--header {line:?} is not NAME: VALUE"))?;
        let name: HeaderName = name
            .trim()
            .parse()
            .with_context(|| format!("--header {line:?}: not a header name"))?;
        let value = HeaderValue::from_str(value.trim())
            .with_context(|| format!("--header {line:?}: not a header value"))?;
        request = request.header(name, value);
    }
    request
        .body(Full::new(Bytes::from(data.unwrap_or_default())))
        .with_context(|| format!("--path {path:?} is no path"))
}

fn read_data(data: &str) -> anyhow::Result<Vec<u8>> {
    match data.strip_prefix('@') {
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .context("cannot read standard input")?;
            Ok(bytes)
        }
        Some(file) => std::fs::read(file).with_context(|| format!("--data: cannot read {file}")),
        None => Ok(data.as_bytes().to_vec()),
    }
}

fn guess_type(data: &[u8]) -> &'static str {
    if serde_json::from_slice::<Value>(data).is_ok() {
        "application/json"
    } else {
        "text/plain; charset=utf-8"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn parse(line: &[&str]) -> anyhow::Result<Request<Full<Bytes>>> {
        let Command::Invoke(args) =
            Cli::try_parse_from([&["kittiwake", "invoke", "hello"], line].concat())?.command
        else {
            unreachable!()
        };
        request(&args, &Uri::from_static("http://hello.default.localhost:8080"))
    }

    #[test]
    fn data_makes_it_a_post() {
        let request = parse(&["--data", r#"{"a":1}"#, "--path", "x?y=1", "-H", "X-A: b"]).unwrap();
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri(), "/x?y=1");
        assert_eq!(request.headers()["content-type"], "application/json");
        assert_eq!(request.headers()["x-a"], "b");
        assert_eq!(request.headers()["host"], "hello.default.localhost:8080");
    }

    #[test]
    fn mistakes_name_the_flag() {
        for (line, part) in [
            (vec!["-H", "nonsense"], "--header"),
            (vec!["-H", "bad name: x"], "--header"),
            (vec!["-X", "NO GOOD"], "--request"),
            (vec!["--path", "a b"], "--path"),
            (vec!["--data", "@/no/such/file"], "--data"),
        ] {
            let message = format!("{:#}", parse(&line).unwrap_err());
            assert!(message.contains(part), "{message}");
        }
    }

    #[tokio::test]
    async fn localhost_names_are_this_machine() {
        let address = address_of(&Uri::from_static("http://a.b.localhost:99")).await;
        assert_eq!(address, Some("127.0.0.1:99".parse().unwrap()));
    }
}
