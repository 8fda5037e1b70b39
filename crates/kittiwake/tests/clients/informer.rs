//! client-go's informers: typed, dynamic and of metadata alone, as every controller written in Go has them.

use crate::program::Program;
use kittiwake_testkit::platform::{PATIENCE, TestPlatform};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;

struct Followed(Lines<BufReader<ChildStdout>>);

impl Followed {
    /// Reads on until all of these lines came, in any order; others may come between.
    async fn until(&mut self, wanted: &[&str]) {
        let mut missing: Vec<&str> = wanted.to_vec();
        let reading = async {
            while !missing.is_empty() {
                let line = self.0.next_line().await.unwrap().expect("the informer goes on");
                missing.retain(|wanted| *wanted != line);
            }
        };
        if tokio::time::timeout(PATIENCE, reading).await.is_err() {
            panic!("these lines never came: {missing:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn informers_see_everything_also_over_a_restart() {
    let mut platform = TestPlatform::start().await.unwrap();
    let Some(program) = Program::new("informer", &platform) else {
        return;
    };
    let map = |name: &str, x: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{x: \"{x}\"}}\n")
    };
    platform.apply(&map("first", "1")).await.unwrap();
    let kubeconfig = program.kubeconfig();
    let mut command = program.command(&["-kubeconfig", &kubeconfig]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = Followed(BufReader::new(child.stdout.take().unwrap()).lines());
    lines.until(&["map added first x=1", "synced"]).await;

    platform.apply(&map("first", "2")).await.unwrap();
    platform.apply(&map("second", "1")).await.unwrap();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: hidden}\nstringData: {a: b}\n";
    platform.apply(secret).await.unwrap();
    let service = kittiwake_testkit::platform::service("hello", "file:///no/such.wasm", "");
    platform.apply(&service).await.unwrap();
    lines
        .until(&[
            "map updated first x=2",
            "map added second x=1",
            "secret-name added hidden",
            "service added hello generation=1",
        ])
        .await;

    // The server forgets its history when it restarts: the informers are told 410 and list again by themselves.
    platform.restart().await.unwrap();
    platform.apply(&map("first", "3")).await.unwrap();
    platform.apply(&map("third", "1")).await.unwrap();
    lines
        .until(&["map updated first x=3", "map added third x=1"])
        .await;
    child.kill().await.unwrap();
}
