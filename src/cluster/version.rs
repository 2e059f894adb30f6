//! How two processes know that they are the same program: by its bytes. A plan goes only to a worker that reads it as it was meant.

use std::io::Read;

use ring::digest::{Context, SHA256};

use crate::error::{Error, Result};

/// The release, and what the program's file comes to.
pub(super) fn own() -> Result<String> {
    let failed = |e: std::io::Error| Error::storage(format!("cannot read this program's own file: {e}"));
    // The file of this process also where another one lies in its place by now.
    let path = match std::path::Path::new("/proc/self/exe") {
        own if own.exists() => own.to_owned(),
        _ => std::env::current_exe().map_err(failed)?,
    };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let (mut digest, mut buffer) = (Context::new(&SHA256), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            n => digest.update(&buffer[..n]),
        }
    }
    let digest = digest.finish();
    let short: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}+{short}", env!("CARGO_PKG_VERSION")))
}
