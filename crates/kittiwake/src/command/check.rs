//! `kittiwake check`: whether the objects' file of a server that is not running is what was written.

use crate::cli::objects::CheckArgs;
use crate::keys;
use crate::platform::OBJECTS_FILE;
use std::process::ExitCode;

/// Runs the command. Fails when anything is damaged, or cannot be read for want of a key.
///
/// # Errors
/// When the file is in use, or so damaged that nothing in it can be read.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let path = args.state.data_dir.join(OBJECTS_FILE);
    let encryption = keys::find(&args.state.data_dir, args.state.encryption_key_file.as_deref())?;
    let checked = kittiwake_store::check(&path, encryption.as_ref())?;
    crate::outln!(
        "{}: {} objects, resource version {}",
        path.display(),
        checked.objects,
        checked.resource_version
    );
    for (id, count) in &checked.encrypted {
        let missing = if checked.missing_keys.contains(id) {
            "; that key was not given, so they were checked but not decrypted"
        } else {
            ""
        };
        crate::outln!("encrypted with key {id}: {count}{missing}");
    }
    for key in &checked.damaged {
        crate::outln!("DAMAGED  {key}");
    }
    if checked.incomplete {
        crate::outln!("DAMAGED  objects are missing, or older than what was written last");
    }
    if !checked.is_sound() {
        crate::outln!(
            "Restore a backup:  kittiwake restore BACKUP --force --data-dir {}",
            args.state.data_dir.display()
        );
        return Ok(ExitCode::FAILURE);
    }
    if !checked.missing_keys.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    crate::outln!("Everything is as it was written.");
    Ok(ExitCode::SUCCESS)
}
