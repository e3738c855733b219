//! Certificates and keys as text (RFC 7468), to be given to other programs.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const LINE_BYTES: usize = 48;

/// Bytes under a label, such as `CERTIFICATE`.
pub(crate) fn encode(label: &str, bytes: &[u8]) -> String {
    let lines: String = bytes.chunks(LINE_BYTES).map(|line| format!("{}\n", base64(line))).collect();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

fn base64(bytes: &[u8]) -> String {
    let digits = bytes.chunks(3).flat_map(|three| {
        let number = three.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        (0..4).map(move |nth| match nth <= three.len() {
            true => DIGITS.get((number >> (18 - 6 * nth) & 63) as usize).copied().map_or('A', char::from),
            false => '=',
        })
    });
    digits.collect()
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
