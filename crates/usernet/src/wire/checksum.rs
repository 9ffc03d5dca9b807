//! The checksum of the Internet's protocols. Source: RFC 1071.

use std::net::IpAddr;

/// A sum of 16-bit words in ones' complement, over pieces of any length.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    total: u64,
    /// The next byte is the lower half of a word.
    odd: bool,
}

impl Sum {
    /// What TCP, UDP and ICMPv6 sum up beside their own bytes (RFC 9293 section 3.1, RFC 8200 section 8.1).
    pub(crate) fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Sum {
        let mut sum = Sum::default();
        for address in [source, destination] {
            match address {
                IpAddr::V4(address) => sum.add(&address.octets()),
                IpAddr::V6(address) => sum.add(&address.octets()),
            }
        }
        sum.total += u64::from(protocol) + length as u64;
        sum
    }

    /// Adds bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let words = bytes.chunks_exact(4);
        let mut rest = [0; 4];
        rest[..words.remainder().len()].copy_from_slice(words.remainder());
        // 2³² words fit, far more than a frame has.
        let total: u64 = words.map(|word| u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]))).sum();
        let part = fold(total + u64::from(u32::from_be_bytes(rest)));
        // Section 2(B): bytes that are one place off make the same sum, with its halves exchanged.
        self.total += u64::from(if self.odd { part.swap_bytes() } else { part });
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// The sum itself: what is left to add to, when another does the rest.
    pub(crate) fn partial(self) -> u16 {
        fold(self.total)
    }

    /// What stands in the header.
    pub(crate) fn checksum(self) -> u16 {
        !fold(self.total)
    }
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Section 1, word by word.
    fn plain(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let total = words.fold(0_u64, |total, word| total + u64::from(word));
        let once = (total & 0xffff) + (total >> 16);
        !((once & 0xffff) as u16 + (once >> 16) as u16)
    }

    #[test]
    fn the_example_of_the_standard() {
        let mut sum = Sum::default();
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.partial(), 0xddf2);
    }

    proptest! {
        #[test]
        fn pieces_make_the_sum_of_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..300_usize, again in 0..300_usize) {
            let cut = cut.min(bytes.len());
            let again = cut + again.min(bytes.len() - cut);
            let mut sum = Sum::default();
            for piece in [&bytes[..cut], &bytes[cut..again], &bytes[again..]] {
                sum.add(piece);
            }
            prop_assert_eq!(sum.checksum(), plain(&bytes));
        }
    }
}
