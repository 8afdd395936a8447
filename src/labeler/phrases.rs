//! The words by which reports name the observations.

use std::sync::LazyLock;

use super::SUPPORT_DEVICES;

/// Which observation a phrase names, as its place in [`crate::phantom::LABELS`]; several phrases name two at once.
const NAMES: &[(&[&str], &str)] = &[
    (
        &["Atelectasis"],
        "atelecta*|atelectesis|collapse|lobar collapse|lobe collapse|lung collapse|collapsed lobe|collapsed lung|lung is collapsed|\
         lobe is collapsed|lung remains collapsed|lobe remains collapsed|collapse of the * lobe|collapse of the * * lobe|\
         collapse of the * lung",
    ),
    (&["Cardiomegaly"], "cardiomegaly|cardiomegally|megalocardia|big heart"),
    (&["Consolidation"], "consolidat*|consoldiation|consolidaton"),
    (
        &["Edema"],
        "edema|oedema|edematous|heart failure|chf|vascular congestion|pulmonary congestion|venous congestion|\
         pulmonary vascular engorgement|cephalization|fluid overload|volume overload|kerley b lines|kerley lines|cardiac decompensation|\
         signs of congestion",
    ),
    (&["Fracture"], "fractur*|cortical break|broken rib*"),
    (
        &["Lung Lesion"],
        "nodule|nodules|nodular opacity|nodular opacities|nodular density|nodular densities|nodular shadow*|mass|masses|\
         lung lesion*|pulmonary lesion*|cavitary lesion*|round lesion*|tumor*|tumour*|neoplasm*|carcinoma|\
         metasta*|masslike|mass like|masslike opacity|mass like opacity|lung cancer",
    ),
    (
        &["Lung Opacity"],
        "opacity|opacities|opacification*|opacified|infiltrat*|airspace disease|air space disease|interstitial markings|\
         interstitial pattern|interstitial disease|reticular pattern|reticulation|reticular markings|increased density|\
         interstitial lung disease|ild|pulmonary fibrosis|interstitial fibrosis|ground glass|pneumonic infiltrat*|airspace process",
    ),
    (
        &["Pleural Effusion"],
        "pleural effusion*|effusion|effusions|pleural fluid|hydrothorax|hemothorax|haemothorax|empyema|\
         effussion*|effuson*|fluid in the fissure*|fluid in the * fissure*|fluid in the * * fissure*|\
         fluid in the pleural space*|fluid in the * pleural space*",
    ),
    (
        &["Pleural Effusion", "Pneumothorax"],
        "hydropneumothorax|hemopneumothorax",
    ),
    (
        &["Pleural Other"],
        "pleural thickening|thickened pleura|pleural scar*|pleural plaque*|pleural calcification*|fibrothorax|pleural fibrosis|\
         pleural parenchymal scar*|pleuroparenchymal scar*",
    ),
    (
        &["Pneumonia"],
        "pneumonia|pneumonias|pna|bronchopneumonia|infection|infectious process|infectious infiltrat*|infectious consolidation",
    ),
    (
        &["Pneumothorax"],
        "pneumothorax|pneumothoraces|ptx|pneumothoax|penumothorax|pneumothorx|air in the pleural space*|air in the * pleural space*",
    ),
    (
        &["Support Devices"],
        "tube|tubes|tubing|ett|pacemaker*|pacer|pacing leads|pacing wires|defibrillator*|aicd|icd|central venous line*|\
         central line*|venous line*|arterial line*|jugular line*|ij line*|subclavian line*|lines and|lines or|catheter*|picc|picc line*|\
         port a cath|portacath|mediport|tracheostomy|tracheostomy tube*|swan ganz|swan ganz catheter*|sternal wire*|sternotomy wire*|median sternotomy|sternotomy|\
         cerclage wire*|support device*|monitoring device*|hardware|stent|stents|prosthetic valve|valve replacement|\
         valve prosthesis|surgical clip*|surgical drain*|pigtail|pigtail catheter*|pigtail drain*|intra aortic balloon pump|iabp|lvad|\
         prosthetic * valve|tavr|trach|ngt|ogt|cvc|dialysis line*|hemodialysis line*|chest drain*|thoracic drain*|chest port|chest wall port|\
         subclavian port|infusaport|impella|loop recorder|epicardial leads|pacing device|cardiac device|\
         sheath|sheaths|introducer|clip|clips|ventricular assist device*|dobhoff|dobbhoff|arthroplast*|screw|screws|embolization coil*|\
         coils|ivc filter*|vena cava filter*|inferior vena cava filter*|valvular replacement|valvular prosthe*|\
         drain|drains|ij in|ij is|ij has been|ij tip|ij terminat*|cvl|sided port|sided port a cath|sided port catheter*|port terminat*|\
         lead terminat*|leads terminat*|leads are|ekg leads|ecg leads|cardiac leads|pacing pads|operative wires|annuloplasty|annuloplasty ring*|\
         mechanical valve*|mechanical * valve*|bioprosthetic valve*|bioprosthetic * valve*|mitraclip|watchman|stimulator*|pectoral generator|\
         shoulder prosthesis|spinal rods|fusion rods|fixation plate*|gastric band|vp shunt*|ventriculoperitoneal shunt*|ecmo cannula*|\
         lines are in|lines are stable|lines are unchanged|line placement|venous access line*|venous access device*|venous access port*|\
         venous access catheter*|vascath|permacath|permcath|temperature probe*|indwelling device*|ng terminat*|og terminat*",
    ),
    // Not what they seem.
    (
        &[],
        "pericardial effusion*|joint effusion*|mass effect|soft tissue mass*|breast mass*|soft tissue edema|fracture line*|body mass|\
         mediastinal infiltrat*|collapsed lung markings|infection control|cardiac mass*|compression collapse|tracheal collapse|\
         airway collapse|bronchial collapse|syncope and collapse|rectus sheath|\
         to drain|drains into|septal line*",
    ),
];

/// How words begin for bones that may collapse.
const BONES: &[&str] = &["vertebra", "humer", "femor", "endplate"];

/// A phrase and the observations it names.
pub(super) struct Phrase {
    words: Vec<Word>,
    /// Places in the list of labels; none for words that name no observation.
    pub(super) labels: Vec<usize>,
}

enum Word {
    Exactly(&'static str),
    Beginning(&'static str),
    Any,
}

impl Word {
    fn fits(&self, word: &str) -> bool {
        match self {
            Self::Exactly(text) => word == *text,
            Self::Beginning(text) => word.starts_with(text),
            Self::Any => word != ",",
        }
    }
}

static PHRASES: LazyLock<Vec<Phrase>> = LazyLock::new(|| {
    let place = |name: &&str| crate::phantom::LABELS.iter().position(|label| label == name);
    let mut phrases: Vec<Phrase> = NAMES
        .iter()
        .flat_map(|(names, texts)| {
            let labels: Vec<usize> = names.iter().filter_map(place).collect();
            texts.split('|').map(move |text| Phrase {
                words: text.split_whitespace().map(word).collect(),
                labels: labels.clone(),
            })
        })
        .collect();
    phrases.sort_by_key(|phrase| std::cmp::Reverse(phrase.words.len()));
    phrases
});

fn word(text: &'static str) -> Word {
    match text.strip_suffix('*') {
        Some("") => Word::Any,
        Some(stem) => Word::Beginning(stem),
        None => Word::Exactly(text),
    }
}

/// Words `start .. end` of a sentence that name observations.
#[derive(Clone, Debug)]
pub(super) struct Mention {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) labels: &'static [usize],
}

impl Mention {
    /// Whether it names nothing but a device.
    pub(super) fn is_device(&self) -> bool {
        self.labels == [SUPPORT_DEVICES]
    }
}

/// Every mention in a sentence, the longest phrase first, none overlapping.
pub(super) fn mentions(sentence: &[String]) -> Vec<Mention> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < sentence.len() {
        let fits = |phrase: &&Phrase| {
            let here = sentence.get(at..at + phrase.words.len());
            here.is_some_and(|here| here.iter().zip(&phrase.words).all(|(word, wanted)| wanted.fits(word)))
        };
        match PHRASES.iter().find(fits) {
            Some(phrase) => {
                let end = at + phrase.words.len();
                if !phrase.labels.is_empty() && !by_air(sentence, at, end) && !of_bone(sentence, at, end) {
                    found.push(Mention {
                        start: at,
                        end,
                        labels: &phrase.labels,
                    });
                }
                at = end;
            }
            None => at += 1,
        }
    }
    found
}

/// Whether words `start .. end` tell that a lung collapses beside a pneumothorax: "pneumothorax with collapse of the left lung" names
/// no atelectasis.
fn by_air(sentence: &[String], start: usize, end: usize) -> bool {
    let collapse = sentence[start..end].iter().any(|w| w.starts_with("collapse"));
    let near = &sentence[start.saturating_sub(4)..start];
    let beside = near
        .windows(2)
        .any(|two| two[0].contains("pneumothora") && two[1] == "with");
    let mut rest = sentence[start..].iter().map(String::as_str).take(5);
    collapse && beside && rest.any(|w| w == "lung")
}

/// Whether words `start .. end` tell that a bone collapses: "collapse of T11", "the humeral head with collapse".
fn of_bone(sentence: &[String], start: usize, end: usize) -> bool {
    let level = |w: &str| {
        w.strip_prefix(['t', 'l'])
            .is_some_and(|number| number.parse::<u8>().is_ok())
    };
    let bone = |w: &str| level(w) || BONES.iter().any(|stem| w.starts_with(stem));
    let same = |w: &&str| !matches!(*w, "," | "and");
    let before = sentence[..start].iter().rev().map(String::as_str).take(6);
    let after = sentence[end..].iter().map(String::as_str).take(4);
    sentence[start..end] == ["collapse"] && (before.take_while(same).any(bone) || after.take_while(same).any(bone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phantom::LABELS;

    #[test]
    fn every_name_in_the_list_is_an_observation_and_every_finding_has_words() {
        let named: Vec<&str> = NAMES.iter().flat_map(|(names, _)| names.iter().copied()).collect();
        assert!(named.iter().all(|name| LABELS.contains(name)));
        for label in LABELS {
            // These two are told by the state of heart and mediastinum, and by the absence of the rest.
            let elsewhere = ["Enlarged Cardiomediastinum", "No Finding"].contains(&label);
            assert!(elsewhere || named.contains(&label), "{label}");
        }
    }

    #[test]
    fn the_longest_phrase_counts_and_look_alikes_do_not() {
        let names = |text: &str| -> Vec<&str> {
            let sentence: Vec<String> = text.split(' ').map(str::to_owned).collect();
            let found = mentions(&sentence);
            found.iter().flat_map(|m| m.labels.iter().map(|&l| LABELS[l])).collect()
        };
        assert_eq!(names("nodular opacity and opacity"), ["Lung Lesion", "Lung Opacity"]);
        assert_eq!(names("hydropneumothorax"), ["Pleural Effusion", "Pneumothorax"]);
        assert_eq!(names("collapse of the left lower lobe"), ["Atelectasis"]);
        assert!(names("pericardial effusion without mass effect").is_empty());
    }
}
