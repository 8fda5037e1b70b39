//! Serves the API with an in-memory store, to be tried with kubectl.
use kittiwake_core::clock::SystemClock;
use kittiwake_core::log::LogHub;
use std::sync::Arc;
#[tokio::main]
async fn main() {
    let clock = Arc::new(SystemClock::new());
    let inputs = kittiwake_apiserver::Inputs {
        store: kittiwake_store::ObjectStore::in_memory(kittiwake_store::Config::default()),
        crds: kittiwake_api::crd::all(),
        clock: clock.clone(),
        logs: Arc::new(LogHub::new(clock)),
    };
    let (handle, task) = kittiwake_apiserver::build(kittiwake_apiserver::Config::default(), inputs).unwrap();
    tokio::spawn(task);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, handle.router()).await.unwrap();
}
