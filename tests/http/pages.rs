//! The page to try the model with, and the reference. What a browser makes of them is looked at by hand; here stands what must not get lost.

use crate::house::*;

#[tokio::test]
async fn the_pages_load_nothing_from_anywhere() {
    let house = House::plain().await;
    for path in ["/", "/docs"] {
        let page = house.get(path).await.ok();
        assert!(page.header("content-type").starts_with("text/html"));
        assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
        let text = page.text();
        assert!(text.contains(llm_cxr::RESEARCH_NOTICE), "{path} lacks the notice");
        for outside in ["src=\"http", "href=\"http", "@import", "url("] {
            assert!(!text.contains(outside), "{path} holds {outside}");
        }
    }
}

#[tokio::test]
async fn the_page_tells_what_an_answer_is_worth() {
    let form = House::plain().await.get("/").await.ok().text();
    for told in [
        "The answer broke off; ask again.",
        "(cut off at the length limit)",
        "SYNTHETIC: it shows no patient.",
        "Only frontal chest X-rays. Of any other picture a report is written all the same.",
        "No preview: browsers do not show DICOM",
        "Agreement is not certainty.",
        "The readings disagree.",
        "– not in the report",
        "body.image_notes",
        "Have it read",
        " say this.",
        "Model output, for research only; may be wrong.",
        "Synthetic, not a patient; for research only.",
    ] {
        assert!(form.contains(told), "the page lacks {told}");
    }
    assert!(!form.contains("innerHTML"), "text goes in as text");
    // Without it a rule that shows images shows the one that is not there.
    assert!(form.contains("[hidden] { display: none !important }"));
}

#[tokio::test]
async fn every_field_of_the_page_has_a_label_that_stays() {
    let form = House::plain().await.get("/").await.ok().text();
    let fields = ["<input ", "<textarea "].map(|tag| form.matches(tag).count());
    assert_eq!(fields, [4, 1], "a field was added or removed");
    for id in ["file", "question", "text", "seed", "key"] {
        assert!(form.contains(&format!("<label for=\"{id}\">")), "{id} has no label");
    }
    for told in form.split("placeholder=\"").skip(1) {
        assert!(
            told.starts_with("for example: "),
            "a placeholder that reads like what was entered"
        );
    }
}

#[tokio::test]
async fn the_page_knows_the_note_of_a_synthetic_file_and_opens_the_reference_beside_itself() {
    let form = House::plain().await.get("/").await.ok().text();
    let known = form
        .split("const SYNTHETIC_NOTE = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let known = known.expect("the page has it");
    let note = llm_cxr::radiograph::ImageNote::Synthetic.to_string();
    assert!(known.len() > 20 && note.starts_with(known), "{note}: {known}");
    // What was read and drawn would else be lost.
    let links = form.matches("href=\"/").count();
    assert_eq!(form.matches("target=\"_blank\" rel=\"noopener\"").count(), links);
    assert!(links > 2);
}

#[tokio::test]
async fn the_page_knows_the_codes_of_a_refused_key() {
    let form = House::plain().await.get("/").await.ok().text();
    for code in [
        llm_cxr::http::ErrorCode::MissingApiKey,
        llm_cxr::http::ErrorCode::InvalidApiKey,
    ] {
        assert!(form.contains(&format!("{}: \"", code.as_str())), "{}", code.as_str());
    }
    assert!(form.contains("<input type=\"password\" id=\"key\""));
}

#[tokio::test]
async fn the_reference_begins_with_what_the_model_does_and_its_links_lead_somewhere() {
    let docs = House::plain().await.get("/docs").await.ok().text();
    for path in [
        "/v1/report",
        "/v1/vqa",
        "/v1/generate-image",
        "/v1/instruct",
        "/v1/chat/completions",
        "/v1/info",
        "/livez",
        "/metrics",
        "curl",
    ] {
        assert!(docs.contains(path), "the reference lacks {path}");
    }
    let place = |what: &str| docs.find(what).unwrap_or_else(|| panic!("the reference lacks {what}"));
    for mark in ["href=\"#", "<h2 id=\""] {
        let [report, probe] = ["report", "getLiveness"].map(|id| place(&format!("{mark}{id}\"")));
        assert!(report < probe, "housekeeping comes last");
    }
    for link in docs.split("href=\"#").skip(1) {
        let id = link.split('"').next().unwrap_or_default();
        let places = docs.matches(&format!(" id=\"{id}\"")).count();
        assert_eq!(places, 1, "#{id} is in {places} places");
    }
}

#[tokio::test]
async fn tables_of_the_reference_scroll_by_themselves_and_name_every_column() {
    let docs = House::plain().await.get("/docs").await.ok().text();
    let tables = docs.matches("<table>").count();
    assert!(tables > 10, "{tables} tables");
    assert_eq!(docs.matches("<div class=\"wide\"><table>").count(), tables);
    assert_eq!(docs.matches("</table></div>").count(), tables);
    assert!(!docs.contains("<th></th>"), "a column without a name");
}

#[tokio::test]
async fn examples_of_the_reference_name_the_server_it_came_from_and_say_where_a_key_and_a_name_go() {
    let docs = House::plain().await.get("/docs").await.ok().text();
    let fixed = "http://127.0.0.1:8080";
    assert!(docs.contains(&format!("replaceAll(\"{fixed}\", location.origin)")));
    let urls = docs.matches("http://").count() - docs.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(urls, docs.matches(fixed).count(), "an example names another server");
    for told in [
        "-H 'Authorization: Bearer KEY'",
        "an id that GET /v1/models lists",
        "curl -s http://127.0.0.1:8080/v1/info</pre>",
    ] {
        assert!(docs.contains(told), "the reference lacks {told}");
    }
}

#[tokio::test]
async fn the_pages_bring_an_icon_so_that_no_browser_asks_for_one() {
    let house = House::plain().await;
    for path in ["/", "/docs"] {
        let page = house.get(path).await.ok().text();
        assert!(page.contains("<link rel=\"icon\" href=\"data:image/svg+xml,"), "{path}");
    }
}
