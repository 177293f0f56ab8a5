//! Lists page by page.

use serde_json::json;

use super::*;

async fn ids(fixture: &mut Fixture, body: Value) -> (Vec<String>, Option<String>) {
    let list = fixture.ok("ListTunnels", body).await;
    let summaries = list["tunnelSummaries"].as_array().unwrap();
    let ids = summaries.iter().map(|s| text(&s["tunnelId"])).collect();
    (ids, list.get("nextToken").map(text))
}

#[tokio::test]
async fn pages_go_from_new_to_old_and_do_not_shift() {
    let mut fixture = Fixture::new().await;
    let mut opened = Vec::new();
    for _ in 0..10 {
        opened.push(fixture.open(json!({})).await.0);
    }
    opened.reverse();
    let mut seen = Vec::new();
    let mut body = json!({"maxResults": 3});
    loop {
        let (page, next) = ids(&mut fixture, body).await;
        seen.extend(page);
        let Some(next) = next else { break };
        assert!(
            next.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_=-".contains(&b))
        );
        // One comes in front, the one the next page begins after goes away.
        fixture.open(json!({})).await;
        let gone = json!({"tunnelId": seen.last().unwrap(), "delete": true});
        fixture.ok("CloseTunnel", gone).await;
        body = json!({"maxResults": 3, "nextToken": next});
    }
    assert_eq!(seen, opened);
}

#[tokio::test]
async fn a_page_holds_a_hundred_unless_told_otherwise() {
    let mut fixture = Fixture::new().await;
    for _ in 0..100 {
        let config = json!({"thingName": "t", "services": ["SSH"]});
        fixture.open(json!({ "destinationConfig": config })).await;
    }
    let (page, next) = ids(&mut fixture, json!({})).await;
    assert_eq!((page.len(), next), (100, None));
    fixture.open(json!({})).await;
    let (page, next) = ids(&mut fixture, json!({})).await;
    assert_eq!(page.len(), 100);
    assert!(next.is_some());
    let (page, next) = ids(&mut fixture, json!({"thingName": "t"})).await;
    assert_eq!(
        (page.len(), next),
        (100, None),
        "the filter counts, not the table"
    );
    let (page, _) = ids(&mut fixture, json!({"thingName": "T"})).await;
    assert!(page.is_empty(), "names are told apart by case");
}
