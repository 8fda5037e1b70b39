//! Flags of the commands about the objects as a whole: backup, restore, check.

use super::ConnectArgs;
use clap::Args;
use std::path::PathBuf;

/// `kittiwake backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// File to write, replaced when it is complete; - for standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Which server.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// The folder that `up` was or will be given, and the keys of what is encrypted in it.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// Folder for all state, as of `up`
    #[arg(long, value_name = "DIR", env = "KITTIWAKE_DATA_DIR", default_value = crate::config::DATA_DIR)]
    pub data_dir: PathBuf,
    /// File with the keys of encrypted objects, as of `up` [default: DIR/encryption.key]
    #[arg(long, value_name = "FILE", env = "KITTIWAKE_ENCRYPTION_KEY_FILE")]
    pub encryption_key_file: Option<PathBuf>,
}

/// `kittiwake restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// File that `kittiwake backup` wrote; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Put the backup in the place of objects that are there; they are kept as objects.redb.replaced
    #[arg(long)]
    pub force: bool,
    /// Where to.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `kittiwake check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// What to check.
    #[command(flatten)]
    pub state: StateArgs,
}
