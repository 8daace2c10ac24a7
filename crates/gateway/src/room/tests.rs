use super::*;

const MIB: u64 = 1 << 20;

fn share(bytes: u64) -> Arc<Share> {
    Arc::new(Share::new(Part::Bodies, bytes))
}

#[tokio::test]
async fn what_is_held_is_counted_until_it_goes() {
    let share = share(16 * MIB);
    let mut one = share.take(4 * MIB).await.unwrap();
    assert_eq!(share.held(), 4 * MIB);
    one.grow(6 * MIB).await.unwrap();
    one.grow(5 * MIB).await.unwrap();
    assert_eq!(share.held(), 6 * MIB);
    one.shrink(MIB);
    assert_eq!(share.held(), MIB);
    let two = share.take(10).await.unwrap();
    assert_eq!(share.held(), MIB + UNIT);
    drop(one);
    drop(two);
    assert_eq!((share.held(), share.refused()), (0, 0));
}

#[tokio::test]
async fn what_grows_large_leaves_the_room_of_the_small() {
    let share = share(16 * MIB);
    let mut grown = share.nothing();
    let mut bytes = 0;
    while bytes < 2 * SMALL_BYTES {
        bytes += 5_000;
        grown.grow(bytes).await.unwrap();
        assert_eq!(share.held(), bytes.next_multiple_of(UNIT));
    }
    assert_eq!(share.small.available_permits() as u64, share.small_max);
}

#[tokio::test(start_paused = true)]
async fn large_ones_take_no_room_from_small_ones_nor_from_other_parts() {
    let room = Room::new(96 * MIB);
    let bodies = room.of(Part::Bodies);
    let held = bodies.take(bodies.one_max()).await.unwrap();
    let refused = bodies.take(MIB).await.unwrap_err();
    assert_eq!(refused.status, http::StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.message.contains("server.memory_bytes"), "{}", refused.message);
    assert_eq!(bodies.refused(), 1);
    bodies.take(SMALL_BYTES).await.unwrap();
    for part in [Part::Answers, Part::Frames] {
        room.of(part).take(MIB).await.unwrap();
    }
    drop(held);
    bodies.take(MIB).await.unwrap();
    let sum: u64 = Part::ALL.iter().map(|p| room.of(*p).bytes_max()).sum();
    assert_eq!(sum, 96 * MIB);
}

#[tokio::test(start_paused = true)]
async fn who_waits_gets_what_becomes_free_in_the_order_of_asking() {
    let share = share(16 * MIB);
    let held = share.take(share.one_max()).await.unwrap();
    let first = tokio::spawn({
        let share = Arc::clone(&share);
        async move { share.take(8 * MIB).await }
    });
    tokio::task::yield_now().await;
    let second = tokio::spawn({
        let share = Arc::clone(&share);
        async move { share.take(8 * MIB).await }
    });
    tokio::task::yield_now().await;
    drop(held);
    let first = first.await.unwrap().unwrap();
    assert!(!second.is_finished());
    drop(first);
    second.await.unwrap().unwrap();
    assert_eq!(share.held(), 0);
}

#[tokio::test]
async fn what_can_never_fit_is_refused_at_once() {
    let share = share(16 * MIB);
    let refused = share.take(share.one_max() + 1).await.unwrap_err();
    assert_eq!(refused.status, http::StatusCode::PAYLOAD_TOO_LARGE);
    assert!(share.try_take(share.one_max() + 1).is_none());
}
