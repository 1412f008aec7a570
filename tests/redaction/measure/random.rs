//! A seeded generator of the characters of tokens.

/// SplitMix64: the same seed gives the same texts everywhere.
pub struct Random(u64);

const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    pub fn of(&mut self, alphabet: &str, length: usize) -> String {
        let alphabet = alphabet.as_bytes();
        (0..length).map(|_| char::from(self.pick(alphabet))).collect()
    }

    pub fn alnum(&mut self, length: usize) -> String {
        self.of(ALNUM, length)
    }

    pub fn base64(&mut self, length: usize) -> String {
        self.of(BASE64, length)
    }

    /// Characters of URL-safe base64. The last one is a letter or a digit, because a dash at the end is not a part of a
    /// word.
    pub fn url_safe(&mut self, length: usize) -> String {
        let mut text = self.of(URL_SAFE, length - 1);
        text.push_str(&self.alnum(1));
        text
    }

    pub fn hex(&mut self, length: usize) -> String {
        self.of("0123456789abcdef", length)
    }

    pub fn digits(&mut self, length: usize) -> String {
        let first = self.of("123456789", 1);
        first + &self.of("0123456789", length - 1)
    }

    pub fn upper(&mut self, length: usize) -> String {
        self.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", length)
    }

    pub fn lower(&mut self, length: usize) -> String {
        self.of("abcdefghijklmnopqrstuvwxyz0123456789", length)
    }

    pub fn uuid(&mut self) -> String {
        let (a, b, c, d, e) = (self.hex(8), self.hex(4), self.hex(3), self.hex(3), self.hex(12));
        format!("{a}-{b}-4{c}-{}{d}-{e}", self.pick(&['8', '9', 'a', 'b']))
    }
}
