//! The hashes of the table: of raw spellings (seeded per process, as fast as the machine can), of label pairs (seeded),
//! and of canonical labels (fixed, for files).
#![allow(unsafe_code)] // AES instructions: a spelling is hashed for every sample, and they take a fifth of the time

/// Keys of the stable hash: digits of pi. Never changed; stored files rely on it.
const STABLE: [u64; 4] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
];

/// Hashes raw spellings with keys nobody outside this process knows.
pub(super) struct SpellingHash {
    keys: [u128; 8],
    words: [u64; 4],
    #[cfg(target_arch = "x86_64")]
    aes: bool,
}

impl SpellingHash {
    pub(super) fn new(seed: [u8; 16]) -> Self {
        let mut keys = [0u128; 8];
        for (i, k) in (0u8..).zip(keys.iter_mut()) {
            let mut input = [0u8; 17];
            input[..16].copy_from_slice(&seed);
            input[16] = i;
            *k = wide(&STABLE, u64::from(i), &input);
        }
        let words = [
            keys[0] as u64,
            (keys[0] >> 64) as u64,
            keys[1] as u64,
            (keys[1] >> 64) as u64,
        ];
        SpellingHash {
            keys,
            words,
            #[cfg(target_arch = "x86_64")]
            aes: std::arch::is_x86_feature_detected!("aes"),
        }
    }

    /// Never zero, which marks an empty place.
    #[inline]
    pub(super) fn hash(&self, tenant: u32, raw: &[u8]) -> u128 {
        #[cfg(target_arch = "x86_64")]
        if self.aes {
            // SAFETY: `aes` says that this processor has the instructions.
            return unsafe { aes_hash(&self.keys, tenant, raw) } | 1;
        }
        wide(&self.words, u64::from(tenant), raw) | 1
    }

    #[cfg(test)]
    pub(super) fn portable(mut self) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            self.aes = false;
        }
        self
    }
}

/// Two rounds a block in four lanes, so that a difference passes 25 S-boxes before it can meet another of its lane.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "aes")]
fn aes_hash(keys: &[u128; 8], tenant: u32, raw: &[u8]) -> u128 {
    use std::arch::x86_64::{
        __m128i, _mm_aesenc_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_unpackhi_epi64, _mm_xor_si128,
    };
    #[inline]
    #[target_feature(enable = "aes")]
    fn load(b: &[u8; 16]) -> __m128i {
        wide_register(u128::from_le_bytes(*b))
    }
    #[inline]
    #[target_feature(enable = "aes")]
    fn wide_register(n: u128) -> __m128i {
        _mm_set_epi64x((n >> 64) as i64, n as i64)
    }
    #[inline]
    #[target_feature(enable = "aes")]
    fn mix(lane: __m128i, block: __m128i, key: __m128i) -> __m128i {
        _mm_aesenc_si128(_mm_aesenc_si128(_mm_xor_si128(lane, block), key), lane)
    }
    let about = wide_register((raw.len() as u128) << 64 | u128::from(tenant));
    let key = wide_register(keys[4]);
    let mut lanes = [
        _mm_xor_si128(wide_register(keys[0]), about),
        wide_register(keys[1]),
        wide_register(keys[2]),
        wide_register(keys[3]),
    ];
    let (groups, tail) = raw.as_chunks::<64>();
    for group in groups {
        let (blocks, _) = group.as_chunks::<16>();
        lanes[0] = mix(lanes[0], load(&blocks[0]), key);
        lanes[1] = mix(lanes[1], load(&blocks[1]), key);
        lanes[2] = mix(lanes[2], load(&blocks[2]), key);
        lanes[3] = mix(lanes[3], load(&blocks[3]), key);
    }
    let (blocks, tail) = tail.as_chunks::<16>();
    for (lane, block) in lanes.iter_mut().zip(blocks) {
        *lane = mix(*lane, load(block), key);
    }
    let mut last = [0u8; 16];
    last[..tail.len()].copy_from_slice(tail);
    lanes[3] = mix(lanes[3], load(&last), wide_register(keys[5]));
    let end = wide_register(keys[6]);
    let mut h = mix(lanes[0], lanes[1], end);
    h = mix(h, lanes[2], end);
    h = mix(h, lanes[3], end);
    h = mix(h, about, wide_register(keys[7]));
    h = mix(h, key, end);
    let low = _mm_cvtsi128_si64(h) as u64;
    let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(h, h)) as u64;
    u128::from(high) << 64 | u128::from(low)
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let p = u128::from(a) * u128::from(b);
    p as u64 ^ (p >> 64) as u64
}

/// Two multiply-and-fold chains over 16-byte blocks; the last block is padded with zeros, the length goes in first.
fn wide(keys: &[u64; 4], extra: u64, bytes: &[u8]) -> u128 {
    let (mut a, mut b) = (keys[0] ^ bytes.len() as u64, keys[2] ^ extra);
    let mut step = |block: &[u8; 16]| {
        let n = u128::from_le_bytes(*block);
        let (low, high) = (n as u64, (n >> 64) as u64);
        a = fold(a ^ low, high ^ keys[1]) ^ a.rotate_left(23);
        b = fold(b ^ high, low ^ keys[3]) ^ b.rotate_left(29);
    };
    let (blocks, tail) = bytes.as_chunks::<16>();
    for block in blocks {
        step(block);
    }
    let mut last = [0u8; 16];
    last[..tail.len()].copy_from_slice(tail);
    step(&last);
    let x = fold(a ^ keys[3], b ^ keys[0]);
    let y = fold(b ^ keys[1].rotate_left(17), a ^ keys[2].rotate_left(41));
    u128::from(fold(x ^ keys[2], y | 1) ^ y) << 64 | u128::from(x)
}

/// The stable hash of canonical label bytes; the same in every process and version. Its keys are public: where two
/// series meet by hash alone, compare their labels.
pub fn label_hash(labels: &[u8]) -> u128 {
    wide(&STABLE, 0, labels)
}

/// A seeded hash for tables in memory.
#[inline]
pub(super) fn short(seed: u64, bytes: &[u8]) -> u64 {
    let mut h = seed ^ bytes.len() as u64;
    let (words, tail) = bytes.as_chunks::<8>();
    for w in words {
        h = fold(h ^ u64::from_le_bytes(*w), seed.rotate_left(31) | 1);
    }
    let mut last = [0u8; 8];
    last[..tail.len()].copy_from_slice(tail);
    h = fold(h ^ u64::from_le_bytes(last), 0x9e37_79b9_7f4a_7c15);
    fold(h, seed.rotate_left(13) | 1) ^ h
}

/// The same over numbers.
#[inline]
pub(super) fn short_numbers(seed: u64, numbers: &[u32]) -> u64 {
    let mut h = seed ^ numbers.len() as u64;
    for pair in numbers.chunks(2) {
        let n = u64::from(pair[0]) | u64::from(pair.get(1).copied().unwrap_or(0)) << 32;
        h = fold(h ^ n, seed.rotate_left(31) | 1).wrapping_add(n);
    }
    fold(h ^ seed.rotate_left(7), 0x9e37_79b9_7f4a_7c15)
}
