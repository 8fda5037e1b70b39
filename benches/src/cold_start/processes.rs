//! What a first call costs where nothing waits for it: a process or a container that is started anew and does the same
//! work, from the start of its program to its first right answer.

use super::Options;
use super::table::Table;
use crate::container::Bundle;
use crate::peers::Contender;
use crate::process::Server;
use crate::programs;
use crate::workload::Work;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// Makes the command of a peer; none if it is not installed.
type MakeCommand<'a> = &'a dyn Fn() -> anyhow::Result<Option<Command>>;

/// Starts each kind in turn, as often as asked for.
pub async fn measure(options: &Options, table: &mut Table) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let component = Work::Hello.component(&options.paths.component, folder)?;
    let compiled = match programs::installed(&options.paths.wasmtime) {
        true => Some(compile(&options.paths.wasmtime, &component, folder).await?),
        false => None,
    };
    let kinds: [(&str, MakeCommand); 4] = [
        ("process: native hyper", &|| programs::native().map(Some)),
        ("process: wasmtime serve, compiled before", &|| {
            Ok(compiled
                .as_ref()
                .map(|compiled| programs::wasmtime_of_compiled(&options.paths.wasmtime, compiled)))
        }),
        ("process: node", &|| {
            let node = programs::installed("node").then(|| programs::node(folder));
            node.transpose()
        }),
        ("process: workerd, JS", &|| {
            let workerd = options.paths.workerd();
            workerd
                .map(|workerd| programs::workerd(&workerd, folder))
                .transpose()
        }),
    ];
    for (name, command) in kinds {
        let mut samples = Vec::new();
        for _ in 0..options.starts {
            let Some(command) = command()? else { break };
            let (took, server) = start(command).await?;
            samples.push(took);
            server.stop().await?;
        }
        if !samples.is_empty() {
            table.add(name, samples);
        }
    }
    match Bundle::make(folder).await {
        Ok(bundle) => table.add(
            "container: native hyper by crun run",
            containers(&bundle, options.starts).await?,
        ),
        Err(error) => println!("containers are left out: {error:#}"),
    }
    Ok(())
}

async fn start(command: Command) -> anyhow::Result<(Duration, Server)> {
    let start = Instant::now();
    let server = Server::start(command, |line| line.contains("http://")).await?;
    let contender = Contender::answering("a new process", server, &Work::Hello.call()).await?;
    let took = start.elapsed();
    let server = Rc::try_unwrap(contender.server).map_err(|_| anyhow::anyhow!("the server is shared"))?;
    Ok((took, server))
}

async fn containers(bundle: &Bundle, count: usize) -> anyhow::Result<Vec<Duration>> {
    let mut samples = Vec::new();
    for index in 0..count {
        let name = format!("kittiwake-bench-{}-{index}", std::process::id());
        let (took, _server) = start(bundle.run(&name)).await?;
        samples.push(took);
        bundle.delete(&name).await?;
    }
    Ok(samples)
}

/// Compiles the component for `wasmtime serve`.
async fn compile(wasmtime: &Path, component: &Path, folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let compiled = folder.join("hello.cwasm");
    let mut command = Command::new(wasmtime);
    command.arg("compile").arg(component).arg("-o").arg(&compiled);
    let output = command.output().await?;
    anyhow::ensure!(
        output.status.success(),
        "wasmtime compile: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(compiled)
}
