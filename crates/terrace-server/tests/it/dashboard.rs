//! The page at `/`: what is served, and under which rules. What it shows is tested in a browser (`dashboard/tests/`).

use crate::support::{start, token};

/// Every file that the page names is there, and nothing of another host is named.
#[tokio::test]
async fn the_page_is_served_with_all_that_it_names() {
    let service = start("").await;
    let page = service.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let names: Vec<&str> = page
        .body
        .split("href=\"")
        .chain(page.body.split("src=\""))
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|name| name.starts_with("assets/"))
        .collect();
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let file = service.get(&format!("/{name}")).await;
        assert_eq!(file.status, 200, "{name}");
        assert!(!file.body.is_empty(), "{name}");
    }
    assert!(!page.body.contains("//"), "no other host is named: {}", page.body);
}

#[tokio::test]
async fn the_page_may_do_little_and_be_framed_by_nobody() {
    let service = start("").await;
    for path in ["/", "/assets/app.js", "/assets/app.css", "/assets/icon.svg"] {
        let file = service.get(path).await;
        let policy = file.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(file.header("referrer-policy"), Some("no-referrer"), "{path}");
    }
}

#[tokio::test]
async fn a_browser_gets_the_bytes_once() {
    let service = start("").await;
    let first = service.get("/assets/app.js").await;
    let tag = first.header("etag").expect("a validator").to_owned();
    let ask = async |tag: &str| {
        let head = "GET /assets/app.js HTTP/1.1\r\nhost: test\r\nconnection: close\r\nif-none-match: ";
        service.raw(format!("{head}{tag}\r\n\r\n").as_bytes()).await
    };
    for known in [&tag, &format!("\"other\", W/{tag}"), "*"] {
        let again = ask(known).await;
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{known}");
        assert_eq!(again.header("etag"), Some(tag.as_str()));
    }
    assert_eq!(ask("\"other\"").await.status, 200);
    assert_ne!(service.get("/assets/app.css").await.header("etag"), Some(tag.as_str()));
}

#[tokio::test]
async fn what_is_not_of_the_page_is_a_problem_and_nothing_is_written() {
    let service = start("").await;
    service.get("/assets/other.js").await.problem(404, "route_not_found");
    service.get("/assets/../Cargo.toml").await.problem(404, "route_not_found");
    service.put("/", "{}").await.problem(405, "method_not_allowed");
    let head = service.send("HEAD", "/", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

/// A browser cannot send a token for a page. The page has nothing that would need one.
#[tokio::test]
async fn the_page_is_for_anybody_and_where_the_service_is_seen() {
    let ops = token("ops", "a-token-of-operators-0123", "scopes = ['admin']");
    let mut service = start(&format!("server.admin_listen = '127.0.0.1:0'\n{ops}")).await;
    let on_public = service.get("/").await;
    assert_eq!(on_public.status, 401, "what concerns the service is on its own listener");
    service.address = service.admin.expect("an admin listener");
    for path in ["/", "/assets/app.js"] {
        assert_eq!(service.get(path).await.status, 200, "{path}");
    }
    service.get("/api/cache/metrics").await.problem(401, "unauthorized");
}
