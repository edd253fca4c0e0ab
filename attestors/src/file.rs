//! Files that an operator named, bounded.

use std::{
    io::{self, Read as _},
    path::Path,
};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// A file's content, if it has at most `most` bytes. Waits for the disk elsewhere.
pub(crate) async fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_now(&path, most)).await;
    read.map_err(io::Error::other)?
}

/// The same, waiting here.
pub(crate) fn read_now(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut content)?;
    match content.len() as u64 > most {
        true => Err(io::Error::other(format!("it is longer than {most} bytes"))),
        false => Ok(content),
    }
}

/// The certificates in a PEM file, of which there is at least one.
pub(crate) fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = read.map_err(|error| io::Error::other(format!("it is not PEM: {error}")))?;
    match certificates.is_empty() {
        true => Err(io::Error::other("there is no certificate in it, in PEM")),
        false => Ok(certificates),
    }
}
