//! Certificates and keys as text (RFC 7468), to be given to other programs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const LINE_BYTES: usize = 48;

/// Bytes under a label, such as `CERTIFICATE`.
pub(crate) fn encode(label: &str, bytes: &[u8]) -> String {
    let lines: String = bytes.chunks(LINE_BYTES).map(|line| format!("{}\n", STANDARD.encode(line))).collect();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn what_is_written_is_read() {
        for length in 1..200 {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 7 + length) as u8).collect();
            let text = encode("CERTIFICATE", &bytes);
            assert_eq!(CertificateDer::from_pem_slice(text.as_bytes()).unwrap().as_ref(), bytes, "{text}");
        }
    }
}
