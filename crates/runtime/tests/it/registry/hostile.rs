//! Registries that want a password for somebody else, send requests in circles, or hold up the others.

use super::{Auth, Fake, Image, start, user};
use crate::support::Rig;
use axum::Router;
use axum::extract::Request;
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use http::{StatusCode, header};
use kittiwake_core::code::ErrorCode;
use kittiwake_testkit::guest;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// A server that answers as told, and what it was asked: path and `Authorization`.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    /// `answer` is told the own address, the path, and the `Authorization` of a request.
    async fn start(answer: impl Fn(&str, &str, &str) -> Response + Clone + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let (own, log) = (address.clone(), Arc::clone(&seen));
        let router = Router::new().fallback(async move |request: Request| {
            let path = request.uri().path().to_owned();
            let authorization = request
                .headers()
                .get(header::AUTHORIZATION)
                .map_or("", |value| value.to_str().unwrap());
            log.lock().unwrap().push((path.clone(), authorization.to_owned()));
            answer(&own, &path, authorization)
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, seen }
    }

    fn name(&self) -> String {
        format!("{}/team/app:v1", self.address)
    }

    fn seen(&self) -> Vec<(String, String)> {
        self.seen.lock().unwrap().clone()
    }
}

fn refusal(challenges: &[&str]) -> Response {
    let headers: Vec<_> = challenges
        .iter()
        .map(|value| (header::WWW_AUTHENTICATE, (*value).to_owned()))
        .collect();
    (StatusCode::UNAUTHORIZED, AppendHeaders(headers)).into_response()
}

#[tokio::test]
async fn a_password_is_not_given_to_a_realm_that_is_not_trusted() {
    for realm in ["http://token.example/token", "ftp://127.0.0.1/token", "token"] {
        let registry =
            Server::start(move |_, _, _| refusal(&[&format!(r#"Bearer realm="{realm}",service="x""#)])).await;
        let secrets = vec![user(&registry.address, "pass")];
        let error = Rig::new()
            .prepare_with(&registry.name(), secrets)
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::RegistryUnauthorized, "{error}");
        assert!(error.message.contains(realm), "{error}");
        assert!(!error.message.contains("pass:"), "{error}");
        assert!(
            registry
                .seen()
                .iter()
                .all(|(_, authorization)| authorization.is_empty())
        );
    }
}

#[tokio::test]
async fn a_token_server_cannot_send_the_password_on() {
    for status in [StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT] {
        let thief = Server::start(|_, _, _| r#"{"token":"x"}"#.into_response()).await;
        let target = format!("http://{}/steal", thief.address);
        let registry = Server::start(move |own, path, _| match path {
            "/token" => (status, [(header::LOCATION, target.clone())]).into_response(),
            _ => refusal(&[&format!(r#"Bearer realm="http://{own}/token""#)]),
        })
        .await;
        let secrets = vec![user(&registry.address, "pass")];
        let error = Rig::new()
            .prepare_with(&registry.name(), secrets)
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::RegistryUnauthorized, "{error}");
        assert!(error.message.contains("/token redirects"), "{error}");
        assert_eq!(thief.seen(), []);
        assert!(registry.seen().contains(&("/token".into(), Fake::basic())));
    }
}

#[tokio::test]
async fn storage_elsewhere_serves_blobs_but_never_sees_the_password() {
    let image = Image::artifact(&guest::hello());
    let blobs = image.blobs.clone();
    let storage = Server::start(move |_, path, _| {
        let hex = path.rsplit(':').next().unwrap();
        blobs.get(hex).cloned().into_response_or_missing()
    })
    .await;
    let target = storage.address.clone();
    let registry = Server::start(move |_, path, authorization| {
        if authorization != Fake::basic() {
            return refusal(&[r#"Basic realm="x""#]);
        }
        if path.contains("/blobs/") {
            return Redirect::temporary(&format!("http://{target}{path}")).into_response();
        }
        image.manifest.clone().into_response()
    })
    .await;
    let secrets = vec![user(&registry.address, "pass")];
    Rig::new().prepare_with(&registry.name(), secrets).await.unwrap();
    let seen = storage.seen();
    assert!(!seen.is_empty());
    assert!(
        seen.iter().all(|(_, authorization)| authorization.is_empty()),
        "{seen:?}"
    );
}

trait OrMissing {
    fn into_response_or_missing(self) -> Response;
}

impl OrMissing for Option<Vec<u8>> {
    fn into_response_or_missing(self) -> Response {
        self.map_or_else(
            || StatusCode::NOT_FOUND.into_response(),
            IntoResponse::into_response,
        )
    }
}

#[tokio::test]
async fn redirects_in_a_circle_are_given_up() {
    let registry = Server::start(|_, path, _| Redirect::temporary(path).into_response()).await;
    let error = Rig::new().prepare(&registry.name()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::RegistryUnavailable);
    assert!(error.message.contains("redirects more than 5 times"), "{error}");
    assert_eq!(registry.seen().len(), 6, "the request and five redirects, once");
}

#[tokio::test]
async fn a_token_is_preferred_to_the_password() {
    for one_header in [false, true] {
        let image = Image::artifact(&guest::hello());
        let registry = Server::start(move |own, path, authorization| {
            let bearer = format!(r#"Bearer realm="http://{own}/token""#);
            let name = path.rsplit(['/', ':']).next().unwrap();
            match (path, authorization) {
                ("/token", _) => r#"{"token":"secret-token"}"#.into_response(),
                (_, "Bearer secret-token") if name == "v1" => image.manifest.clone().into_response(),
                (_, "Bearer secret-token") => image.blobs.get(name).cloned().into_response_or_missing(),
                _ if one_header => refusal(&[&format!(r#"Basic realm="x", {bearer}"#)]),
                _ => refusal(&[r#"Basic realm="x""#, &bearer]),
            }
        })
        .await;
        let secrets = vec![user(&registry.address, "pass")];
        Rig::new().prepare_with(&registry.name(), secrets).await.unwrap();
        let with_password = registry
            .seen()
            .into_iter()
            .filter(|(_, authorization)| authorization.starts_with("Basic"))
            .map(|(path, _)| path);
        assert!(with_password.into_iter().all(|path| path == "/token"));
    }
}

#[tokio::test]
async fn a_registry_that_hangs_holds_up_neither_files_nor_other_registries() {
    let hanging = start(Image::default(), Auth::Anonymous, |fake| fake.hang = true).await;
    let image = Image::artifact(&guest::hello());
    let other = start(image.clone(), Auth::Anonymous, |fake| {
        fake.address = fake.address.replace("127.0.0.1", "localhost")
    })
    .await;
    let rig = Rig::with(|config| config.fetches_parallel_max = 4);
    rig.write("x.wasm", &guest::hello());
    image.write_layout(&rig.dir.path().join("layout"), "v1");
    let stuck: Vec<_> = (0..4).map(|n| format!("{}:v{n}", hanging.name())).collect();
    let stuck = futures::future::join_all(stuck.iter().map(|name| rig.prepare(name)));
    let others = async {
        while hanging.requests.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        rig.prepare("file://x.wasm").await.unwrap();
        rig.prepare("oci-layout://layout").await.unwrap();
        rig.prepare(&format!("{}:v1", other.name())).await.unwrap();
        assert_eq!(
            hanging.requests.load(Ordering::SeqCst),
            2,
            "two at a time from one host"
        );
    };
    tokio::select! {
        _ = stuck => panic!("a registry that hangs has answered"),
        () = others => {}
    }
}

#[tokio::test]
async fn files_need_no_slot_even_when_there_is_only_one() {
    let hanging = start(Image::default(), Auth::Anonymous, |fake| fake.hang = true).await;
    let rig = Rig::with(|config| config.fetches_parallel_max = 1);
    rig.write("x.wasm", &guest::hello());
    let name = format!("{}:v1", hanging.name());
    let file = async {
        while hanging.requests.load(Ordering::SeqCst) < 1 {
            tokio::task::yield_now().await;
        }
        rig.prepare("file://x.wasm").await.unwrap()
    };
    tokio::select! {
        _ = rig.prepare(&name) => panic!("a registry that hangs has answered"),
        _ = file => {}
    }
}
