//! Lists: newest first, in pages that do not shift.

use super::*;

async fn page(
    fixture: &Fixture<'_, impl Place>,
    thing: Option<&str>,
    after: Option<Cursor>,
    count: usize,
) -> Page {
    let request = ListRequest {
        thing: thing.and_then(ThingName::new),
        after,
        count: NonZeroUsize::new(count).unwrap(),
    };
    fixture.store.list(fixture.now(), request).await.unwrap()
}

fn ids(page: &Page) -> Vec<&str> {
    page.tunnels.iter().map(|t| t.id.as_str()).collect()
}

pub(crate) async fn newest_first_whatever_the_time_of_day_does(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    for jump in [0, -100_000, 50_000] {
        fixture.clock.jump_wall(jump);
        fixture.open().await;
    }
    let page = page(&fixture, None, None, 10).await;
    assert_eq!(ids(&page), ["tunnel-3", "tunnel-2", "tunnel-1"]);
    assert_eq!(page.next, None);
}

pub(crate) async fn the_last_page_has_no_cursor(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    assert!(page(&fixture, None, None, 1).await.tunnels.is_empty());
    for _ in 0..4 {
        fixture.open().await;
    }
    for (count, more) in [(3, true), (4, false), (5, false)] {
        let page = page(&fixture, None, None, count).await;
        assert_eq!(page.next.is_some(), more, "{count}");
        assert_eq!(page.tunnels.len(), count.min(4));
    }
    let first = page(&fixture, None, None, 3).await;
    let second = page(&fixture, None, first.next, 3).await;
    assert_eq!((ids(&second), second.next), (vec!["tunnel-1"], None));
}

pub(crate) async fn pages_are_stable_under_inserts_and_removals(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let mut tunnels = Vec::new();
    for _ in 0..10 {
        tunnels.push(fixture.open().await);
    }
    let mut seen = Vec::new();
    let mut after = None;
    for round in 0.. {
        let page = page(&fixture, None, after, 3).await;
        seen.extend(ids(&page).iter().map(|id| id.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
        // New ones come in front; the very tunnel that the cursor stands on goes away.
        fixture.open().await;
        if round == 0 {
            let last = &tunnels[7];
            fixture
                .store
                .close(fixture.now(), &last.id, true)
                .await
                .unwrap();
        }
    }
    let expected: Vec<_> = (1..=10).rev().map(|n| format!("tunnel-{n}")).collect();
    assert_eq!(seen, expected);
}

pub(crate) async fn a_device_has_its_own_list_with_closed_tunnels_in_it(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    for number in 0..9 {
        let thing = ["a", "b"].get(number % 3).copied();
        let config = config(thing, &["SSH"]);
        let tunnel = fixture.try_open(Some(config), 720).await.unwrap();
        if number == 3 {
            fixture.close(&tunnel).await;
        }
    }
    let first = page(&fixture, Some("a"), None, 2).await;
    assert_eq!(ids(&first), ["tunnel-7", "tunnel-4"]);
    assert_eq!(first.tunnels[1].status, Status::Closed);
    let second = page(&fixture, Some("a"), first.next, 2).await;
    assert_eq!((ids(&second), second.next), (vec!["tunnel-1"], None));
    assert!(page(&fixture, Some("c"), None, 2).await.tunnels.is_empty());
}
