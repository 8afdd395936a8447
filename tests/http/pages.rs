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
    assert_eq!(fields, [3, 1], "a field was added or removed");
    for id in ["file", "question", "text", "key"] {
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
