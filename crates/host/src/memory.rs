#![allow(unsafe_code)] // one call of the C library

/// Gives pages that no allocation uses any more back to the system, where the C library keeps them otherwise. It takes
/// milliseconds; allocations may wait meanwhile.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim may be called at any time from any thread, and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_in_use_stays() {
        let kept: Vec<Vec<u8>> = (0..200u8).map(|n| vec![n; 50_000]).collect();
        drop((0..200u8).map(|n| vec![n; 50_000]).collect::<Vec<_>>());
        super::give_back_memory();
        assert!(kept.iter().zip(0..).all(|(v, n)| v.iter().all(|b| *b == n)));
    }
}
