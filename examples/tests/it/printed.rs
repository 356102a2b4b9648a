//! What the examples without a database print.

fn lines(out: Vec<u8>) -> Vec<String> {
    String::from_utf8(out).expect("it prints text").lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn batch() {
    let mut out = Vec::new();
    crate::batch::run(&mut out).await.unwrap();
    let expected = [
        "100 keys make 338350, loaded by 1 call",
        "20 keys, of which 10 are new (Some(12100) the last): 2 calls in all",
        "12: number 12",
        "13: the loader failed: we do not speak of that",
        "14: number 14",
    ];
    assert_eq!(lines(out), expected);
}

#[tokio::test]
async fn objects() {
    let mut out = Vec::new();
    crate::objects::run(&mut out).await.unwrap();
    let both = r#"home is Some("welcome"), preview 5 is Some("draft 5"), keys of its own:"#;
    let expected = [
        format!("publisher: {both} None"),
        format!("previews: {both} Some(3)"),
        "preview 1 is None".to_owned(),
        r#"stored: ["home: welcome", "home: removed"]"#.to_owned(),
    ];
    assert_eq!(lines(out), expected);
}

#[tokio::test]
async fn outage() {
    let mut out = Vec::new();
    crate::outage::run(&mut out).await.unwrap();
    let expected = [
        "the origin is fine: the price of tea, fresh",
        "the origin is slow: the price of tea, load_slow",
        "the origin is away: the price of tea, load_failed",
        "the origin is fine: the price of tea, fresh",
        "the origin is away, and the price has changed: the origin failed: no route to the database",
        "the origin is away for too long: the origin failed: no route to the database",
    ];
    assert_eq!(lines(out), expected);
}

#[tokio::test]
async fn warming() {
    let mut out = Vec::new();
    crate::warming::run(&mut out).await.unwrap();
    let (progress, said): (Vec<_>, Vec<_>) = lines(out).into_iter().partition(|line| line.starts_with("… "));
    assert!(progress[0].contains("of 3000 keys"), "{progress:?}");
    assert_eq!(said[0], "a query: 2000 keys: 1999 done, 1 skipped, 0 failed");
    assert_eq!(said[1], r#"user 7 is Some("the new name of user 7")"#);
    assert_eq!(said[2], "a list: 3000 of 3000 keys: 999 done, 2000 skipped, 1 failed");
    assert_eq!(said[3], "why one failed: the origin failed: row 2500 is broken");
    let words: Vec<&str> = said[4].split(' ').collect();
    let [loaded, left] = [words[3], words[5]].map(|word| word.parse::<u64>().expect("a number"));
    assert!(loaded > 3_000 && loaded + left == 17_000, "{said:?}");
    assert_eq!(said[5], "evicted: 0");
}
