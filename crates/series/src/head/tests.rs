use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

proptest! {
    /// A page is a map in which later writes win, up to the mark.
    #[test]
    fn a_head_is_a_map(writes in prop::collection::vec((0..3000u32, 0..80i64, 0..4u8, 0..3i64), 0..300), at in 0..300usize, far in 0..4u32) {
        let head = Head::new(Arc::new(SlabPool::new(1 << 20)), 0);
        let mut worlds: Vec<BTreeMap<(u32, i64), (u64, i64)>> = vec![BTreeMap::new()];
        let ids: Vec<SeriesId> = [0, 7, 1500].map(SeriesId).to_vec();
        let mut marks = Vec::new();
        for (i, &(s, t, v, start)) in writes.iter().enumerate() {
            if i == at.min(writes.len() - 1) {
                marks = ids.iter().map(|&id| head.mark(id)).collect();
                worlds.push(worlds[0].clone());
            }
            let id = ids[s as usize % 3];
            // some lie further apart than a run can span
            let t = if far == 0 { t << 30 } else { t };
            head.push_float(id, t, f64::from(v), start);
            worlds[0].insert((id.0, t), (f64::from(v).to_bits(), start));
        }
        let read = |mark: &dyn Fn(usize) -> Mark| {
            let mut world = BTreeMap::new();
            let mut block = SeriesBlock::default();
            for (i, id) in ids.iter().enumerate() {
                block.clear();
                head.read(*id, mark(i), TimeRange::ALL, &mut block);
                assert!(block.at_ms.is_sorted_by(|a, b| a < b));
                for (k, &t) in block.at_ms.iter().enumerate() {
                    let start = block.start_ms.get(k).copied().unwrap_or(0);
                    world.insert((id.0, t), (block.values[k].to_bits(), start));
                }
            }
            world
        };
        prop_assert_eq!(&read(&|_| Mark::ALL), &worlds[0]);
        if let Some(then) = worlds.get(1) {
            prop_assert_eq!(&read(&|i| marks[i]), then);
        }
        for &id in &ids {
            if let (Some((t, v)), Some(newest)) = (
                { let mut l = None; head.marks(&[id], |_, _, last| l = last, true); l },
                worlds[0].range((id.0, i64::MIN)..=(id.0, i64::MAX)).next_back(),
            ) {
                prop_assert_eq!((t, v.to_bits()), (newest.0.1, newest.1.0));
            }
        }
    }
}

#[test]
fn slabs_are_used_again() {
    let pool = Arc::new(SlabPool::new(1 << 30));
    for round in 0..3 {
        let head = Head::new(Arc::clone(&pool), 0);
        for n in 0..20_000u32 {
            head.push_float(SeriesId(n % 500), i64::from(n), 1.0, 0);
        }
        assert!(round == 0 || pool.bytes() < 1 << 20);
    }
}
