//! How each peer is started. Those that take their work from a file get it written into a folder first. All print or
//! are made to print `http://ADDRESS`.

use anyhow::Context;
use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// Whether a program is on the PATH, or is there if it is a path.
pub fn installed(program: impl AsRef<OsStr>) -> bool {
    // All of them know --version or take it as a mistake and end.
    std::process::Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// The native server of this program.
pub fn native() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("native-server");
    Ok(command)
}

/// One process, so that its CPU time can be read, and no access log.
pub fn nginx(folder: &Path, connections: usize) -> anyhow::Result<Command> {
    let address = free_address()?;
    let prefix = folder.display();
    let config = folder.join("nginx.conf");
    let sockets = connections * 2 + 64;
    let text = format!(
        "daemon off; master_process off; pid {prefix}/nginx.pid; error_log {prefix}/error.log;\n\
         events {{ worker_connections {sockets}; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; server {{ listen {address} backlog=4096;\n\
         location / {{ default_type 'text/plain; charset=utf-8'; return 200 'Hello World!\n'; }} }} }}\n"
    );
    std::fs::write(&config, text)?;
    Ok(announced(
        address,
        &format!("nginx -p {prefix} -c {}", config.display()),
    ))
}

pub fn node(folder: &Path) -> anyhow::Result<Command> {
    write_work(folder)?;
    let script = folder.join("node.mjs");
    std::fs::write(&script, include_str!("../peers/node.mjs"))?;
    let mut command = Command::new("node");
    command.arg(script);
    Ok(command)
}

pub fn workerd(program: &Path, folder: &Path) -> anyhow::Result<Command> {
    write_work(folder)?;
    std::fs::write(folder.join("worker.mjs"), include_str!("../peers/worker.mjs"))?;
    let address = free_address()?;
    let config = folder.join("workerd.capnp");
    let text = include_str!("../peers/workerd.capnp").replace("ADDRESS\",", &format!("{address}\","));
    std::fs::write(&config, text)?;
    Ok(announced(
        address,
        &format!("{} serve {}", program.display(), config.display()),
    ))
}

pub fn spin(component: &Path, folder: &Path) -> anyhow::Result<Command> {
    let address = free_address()?;
    let manifest = folder.join("spin.toml");
    let text = format!(
        "spin_manifest_version = 2\n[application]\nname = \"bench\"\nversion = \"0.1.0\"\n\
         [[trigger.http]]\nroute = \"/...\"\ncomponent = \"bench\"\n[component.bench]\nsource = {:?}\n",
        component.display().to_string()
    );
    std::fs::write(&manifest, text)?;
    Ok(announced(
        address,
        &format!("spin up --quiet --listen {address} --from {}", manifest.display()),
    ))
}

/// The best settings of wasmtime serve: pooled slots that are kept resident, of which only dirty pages are reset.
/// Its default of a fresh instance for each request is what Kittiwake does as well.
pub fn wasmtime(program: &Path, component: &Path, connections: usize) -> Command {
    let mut command = Command::new(program);
    let room = (connections + 64).max(1000);
    command.args(["serve", "-S", "cli", "--addr", "127.0.0.1:0"]);
    // Components of WASI 0.3 need them, others do not mind.
    command.args(["-S", "p3", "-W", "component-model-async"]);
    for setting in [
        "pooling-allocator=y",
        "memory-init-cow=y",
        "pooling-memory-keep-resident=1048576",
        "pooling-table-keep-resident=1048576",
        "pooling-pagemap-scan=auto",
    ] {
        command.args(["-O", setting]);
    }
    // Room in the pool for as many instances; the components here have up to five core instances, two memories and
    // four tables each.
    for (what, each) in [
        ("component-instances", 1),
        ("core-instances", 5),
        ("memories", 2),
        ("tables", 4),
        ("stacks", 1),
    ] {
        command.args(["-O", &format!("pooling-total-{what}={}", room * each)]);
    }
    for what in ["requests", "connections"] {
        command.arg(format!("--max-concurrent-{what}={room}"));
    }
    command.arg(component);
    command
}

/// `wasmtime serve` with what `wasmtime compile` has made, for a quick start.
pub fn wasmtime_of_compiled(program: &Path, compiled: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args([
            "serve",
            "-S",
            "cli",
            "--addr",
            "127.0.0.1:0",
            "--allow-precompiled",
        ])
        .arg(compiled);
    command
}

/// What the JavaScript peers share.
fn write_work(folder: &Path) -> anyhow::Result<()> {
    std::fs::write(folder.join("work.mjs"), include_str!("../peers/work.mjs"))
        .context("cannot write the work")
}

/// A server that does not print its address: a shell does, and becomes the server.
fn announced(address: SocketAddr, command_line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("echo http://{address}/; exec {command_line}")]);
    command
}

/// For servers that cannot choose a free port themselves.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
