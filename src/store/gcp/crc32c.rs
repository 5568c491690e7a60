//! The checksum (CRC-32C) by which Google tells that a payload arrived as it was sent.

use crc_fast::CrcAlgorithm;

/// The checksum of these bytes.
#[expect(clippy::cast_possible_truncation, reason = "a checksum of 32 bits comes in the lower half")]
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    // iSCSI's checksum is Castagnoli's.
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    /// Vectors of RFC 3720, B.4, and the usual check value.
    #[test]
    fn checksums_are_those_of_the_rfc() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }
}
