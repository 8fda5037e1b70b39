//! `kittiwake restore`: a backup into the data directory of a server that is not running.

use crate::cli::objects::RestoreArgs;
use crate::keys;
use crate::platform::{OBJECTS_FILE, make_data_dir};
use anyhow::Context;
use std::fs::File;
use std::io::{BufReader, Read};
use std::process::ExitCode;

/// Runs the command.
///
/// # Errors
/// When the backup is not whole, its keys are missing, or there are objects already. Then nothing is changed.
pub fn run(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let mut source: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        let file = File::open(&args.file).with_context(|| format!("cannot open {}", args.file.display()))?;
        Box::new(BufReader::new(file))
    };
    let data_dir = make_data_dir(&args.state.data_dir)?;
    let encryption = keys::find(&data_dir, args.state.encryption_key_file.as_deref())?;
    let path = data_dir.join(OBJECTS_FILE);
    let restored = kittiwake_store::restore(&mut source, &path, encryption.as_ref(), args.force)
        .with_context(|| format!("nothing was restored from {}", args.file.display()))?;
    crate::outln!(
        "{}: {} objects of resource version {}; versions go on from {}, so that clients list again",
        path.display(),
        restored.objects,
        restored.backup_version,
        restored.resource_version
    );
    if let Some(replaced) = restored.replaced {
        crate::outln!("What was there is kept in {}", replaced.display());
    }
    Ok(ExitCode::SUCCESS)
}
