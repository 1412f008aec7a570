//! Distinguishes words from random text.

/// Letter pairs that make up most of English and of the identifiers that are built from it.
const COMMON: &str = "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic ne \
ea ra ce li ch ll be ma si om ur ca el ta la ns di fo ho pe ec pr no ct us ac ot il tr ly nc et ut ss so rs un lo wa ge ie wh ee wi em ad \
ol rt po we na ul ni ts mo ow pa im mi ai sh ir su id os iv ia am fi ci vi pl ig tu ev ld ry mp fe bl ab gh ty op wo sa ay ex ke ui fr oo ag ey \
ap ck lu po ue if up ow bo gi og ov ob ub ef au ep cr rm rn sp sc ks ms ds ds rc rd cl br gr dr fl sl pp tt ff dd gg mm nn cc oc ok ki nk rk ls \
ye da do go va vo ga pi bi ba bu du ru mu nu gu tp ht ws lt ft pt xt db eb by my ys sy cs fs js rv sw tw qu rl rg lf lv mb nv yp em eg ei eu";

fn common_pair(a: u8, b: u8) -> bool {
    // 26 × 26 bits, computed at compile time.
    const TABLE: [u32; 26] = {
        let mut table = [0u32; 26];
        let pairs = COMMON.as_bytes();
        let mut at = 0;
        while at + 1 < pairs.len() {
            if pairs[at].is_ascii_lowercase() && pairs[at + 1].is_ascii_lowercase() {
                table[(pairs[at] - b'a') as usize] |= 1 << (pairs[at + 1] - b'a');
                at += 2;
            } else {
                at += 1;
            }
        }
        table
    };
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    a.is_ascii_lowercase()
        && b.is_ascii_lowercase()
        && TABLE.get(usize::from(a - b'a')).is_some_and(|row| row >> (b - b'a') & 1 == 1)
}

/// Whether letters are a word: an empty text, a short abbreviation, or mostly common pairs.
pub(crate) fn is_word(letters: &str) -> bool {
    let bytes = letters.as_bytes();
    if bytes.len() <= 3 {
        return true;
    }
    let common = bytes.windows(2).filter(|pair| matches!(pair, [a, b] if common_pair(*a, *b))).count();
    common * 100 >= (bytes.len() - 1) * 58 && bytes.iter().any(|b| b"aeiouyAEIOUY".contains(b))
}

/// The words of a name in lower case: `dbPassword`, `DB_PASSWORD` and `db-password` are all `db password`.
pub(crate) fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let chars: Vec<char> = name.chars().collect();
    let mut word = String::new();
    for (at, &c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| chars.get(at)).copied().unwrap_or(' ');
        let after = chars.get(at + 1).copied().unwrap_or(' ');
        let begins = c.is_uppercase()
            && (before.is_lowercase() || before.is_ascii_digit() || (before.is_uppercase() && after.is_lowercase()));
        if (begins || !c.is_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Whether a text consists of words, abbreviations and small numbers, like names, paths and versions.
pub(crate) fn is_wordy(text: &str) -> bool {
    let words = words(text);
    let readable = words.iter().all(|word| {
        // `2d`, `128bit`, as a part of a name
        let counted = word.trim_start_matches(|c: char| c.is_ascii_digit());
        if words.len() >= 3
            && counted.len() < word.len()
            && (1..=3).contains(&counted.len())
            && counted.bytes().all(|b| b.is_ascii_lowercase())
        {
            return word.len() - counted.len() <= 4;
        }
        let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = word.len() - letters.len();
        digits <= 4 && (letters.is_empty() || (letters.bytes().all(|b| !b.is_ascii_digit()) && is_word(letters)))
    });
    // Random text can also be split into short parts that look like abbreviations.
    let scraps = words
        .iter()
        .filter(|word| {
            let digit = |c: char| c.is_ascii_digit();
            word.len() <= 3 || word.starts_with(digit) || (word.len() <= 4 && word.ends_with(digit))
        })
        .count();
    readable && (words.len() < 4 || scraps * 2 <= words.len())
}

fn class(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    }
}

/// How random a text looks: about 0 for names, at least 0.3 for generated values. Counts changes between lower case, upper
/// case and digits, and letter pairs that are rare in words.
pub(crate) fn randomness(text: &str) -> f32 {
    let bytes: Vec<u8> = text.bytes().collect();
    if bytes.len() < 2 {
        return 0.0;
    }
    let (mut changes, mut pairs, mut letters, mut common, mut special) = (0.0, 0.0, 0.0f32, 0.0, 0.0);
    for pair in bytes.windows(2) {
        let [a, b] = pair else { continue };
        let (ca, cb) = (class(*a), class(*b));
        if ca == 3 || cb == 3 {
            continue;
        }
        pairs += 1.0;
        if ca != cb {
            // A capital at the beginning of a word is normal in names.
            changes += if ca == 1 && cb == 0 { 0.5 } else { 1.0 };
        }
        if ca != 2 && cb != 2 {
            letters += 1.0;
            if common_pair(*a, *b) {
                common += 1.0;
            }
        }
    }
    special += bytes.iter().filter(|b| b"!@#$%^&*~?+=".contains(b)).count() as f32;
    // Pairs of the six letters of hex are all common.
    let hex = text.bytes().all(|b| b.is_ascii_hexdigit()) && text.bytes().any(|b| b.is_ascii_digit());
    let rare = if hex || letters < 1.0 { 0.0 } else { (0.5 - common / letters) * (letters / 4.0).min(1.0) };
    changes / f32::max(pairs, 1.0) + rare + (special * 0.1).min(0.2)
}

/// Shannon entropy in bits per character.
pub(crate) fn entropy(text: &str) -> f32 {
    let mut counts = [0u32; 256];
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let total = text.len() as f32;
    counts.iter().filter(|count| **count > 0).map(|&count| count as f32 / total).map(|p| -p * p.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_case_are_split_into_words() {
        for name in ["db-password", "DB_PASSWORD", "dbPassword", "DbPassword", "db.password"] {
            assert_eq!(words(name), ["db", "password"], "{name}");
        }
        assert_eq!(words("AWSSecretKey"), ["aws", "secret", "key"]);
    }

    #[test]
    fn words_and_random_text_are_distinguished() {
        for text in [
            "next_token",
            "TokenKind.Secret",
            "min_length",
            "sha256WithRSAEncryption",
            "src/components/Button.tsx",
            "getUserCredentials",
            "node-modules",
            "utf8mb4_general_ci",
        ] {
            assert!(is_wordy(text) || randomness(text) < 0.3, "{text}: {}", randomness(text));
        }
        for text in [
            "IRkH7GhPsnx9fNlM0SpsHbOocQPpsgQ3V5D",
            "fAeR942otELUWPNcFbzFsLj1CgwCjfuNd9hrvVgn",
            "Cbgrr2664$pikfCYY",
            "a1rpXhc1ANCirV",
            "x7q2m9k4v1z8",
        ] {
            assert!(!is_wordy(text) && randomness(text) >= 0.3, "{text}: {}", randomness(text));
        }
    }
}
