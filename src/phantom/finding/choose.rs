//! Which findings a study has: nothing in a third, otherwise one alone or a combination as it occurs in hospitals.

use crate::phantom::canvas::Bounds;
use crate::phantom::random::Random;
use crate::phantom::truth::{Approach, Finding, Kind, LineTip, Severity, Side, TubePosition, View, Zone};

/// What a study is to show.
pub(in crate::phantom) struct Chosen {
    pub(in crate::phantom) view: View,
    pub(in crate::phantom) findings: Vec<Finding>,
}

#[derive(Clone, Copy)]
enum Story {
    Nothing,
    Single,
    HeartFailure,
    Infection,
    IntensiveCare,
    AfterSurgery,
    Paced,
    Trauma,
    Tumour,
}

/// Chooses view and findings.
pub(in crate::phantom) fn choose(random: &mut Random) -> Chosen {
    let story = random.weighted([
        (Story::Nothing, 0.333),
        (Story::Single, 0.287),
        (Story::HeartFailure, 0.07),
        (Story::Infection, 0.06),
        (Story::IntensiveCare, 0.08),
        (Story::AfterSurgery, 0.05),
        (Story::Paced, 0.04),
        (Story::Trauma, 0.04),
        (Story::Tumour, 0.04),
    ]);
    let bedside = match story {
        Story::IntensiveCare => 1.0,
        Story::AfterSurgery | Story::HeartFailure | Story::Trauma => 0.55,
        _ => 0.33,
    };
    let mut view = if random.chance(bedside) { View::Ap } else { View::Pa };
    let mut list = List::default();
    match story {
        Story::Nothing => {
            if random.chance(0.12) {
                let device = random.below(4);
                list.device(device, random);
                if list.0.iter().any(|finding| finding.kind.needs_a_bed()) {
                    view = View::Ap;
                }
            }
        }
        Story::Single => match random.below(10) {
            0 => list.heart(random),
            1 => list.mediastinum(random),
            2 => list.effusion(None, random),
            3 => list.pneumothorax(None, random),
            4 => list.consolidation(None, random),
            5 => list.opacity(random),
            6 => list.edema(random),
            7 => list.atelectasis(None, random),
            8 => list.lesion(random),
            _ => list.fracture(None, random),
        },
        Story::HeartFailure => {
            if random.chance(0.85) {
                list.heart(random);
            }
            list.edema(random);
            let first = random.pick([Side::Right, Side::Left]);
            list.effusion(Some(first), random);
            if random.chance(0.6) {
                list.effusion(Some(first.opposite()), random);
            }
            if random.chance(0.15) {
                list.device(1, random);
            }
        }
        Story::Infection => {
            let side = random.pick([Side::Right, Side::Left]);
            list.consolidation(Some(side), random);
            if random.chance(0.5) {
                list.effusion(Some(side), random);
            }
            if random.chance(0.25) {
                list.opacity(random);
            }
        }
        Story::IntensiveCare => {
            if random.chance(0.8) {
                list.device(0, random);
            }
            if random.chance(0.7) {
                list.device(2, random);
            }
            match random.below(5) {
                0 => list.edema(random),
                1 => list.consolidation(None, random),
                2 => list.pneumothorax(None, random),
                3 => list.heart(random),
                _ => list.opacity(random),
            }
            if random.chance(0.5) {
                list.effusion(None, random);
            }
            if random.chance(0.4) {
                list.atelectasis(None, random);
            }
        }
        Story::AfterSurgery => {
            list.device(3, random);
            if random.chance(0.4) {
                list.device(2, random);
            }
            if random.chance(0.45) {
                list.heart(random);
            }
            if random.chance(0.5) {
                list.effusion(Some(Side::Left), random);
            }
            if random.chance(0.5) {
                list.atelectasis(Some(Side::Left), random);
            }
            if random.chance(0.2) {
                list.mediastinum(random);
            }
        }
        Story::Paced => {
            list.device(1, random);
            if random.chance(0.6) {
                list.heart(random);
            }
            if random.chance(0.25) {
                list.edema(random);
            }
            if random.chance(0.2) {
                list.device(3, random);
            }
        }
        Story::Trauma => {
            let side = random.pick([Side::Right, Side::Left]);
            list.fracture(Some(side), random);
            if random.chance(0.5) {
                list.pneumothorax(Some(side), random);
            } else if random.chance(0.4) {
                list.effusion(Some(side), random);
            }
            if random.chance(0.25) {
                list.mediastinum(random);
            }
        }
        Story::Tumour => {
            list.lesion(random);
            if random.chance(0.4) {
                list.mediastinum(random);
            }
            if random.chance(0.35) {
                list.effusion(None, random);
            }
        }
    }
    Chosen { view, findings: list.0 }
}

#[derive(Default)]
struct List(Vec<Finding>);

impl List {
    /// Adds a finding unless it would hide another or be hidden by it.
    fn add(&mut self, kind: Kind, side: Option<Side>, zone: Option<Zone>, severity: Option<Severity>) {
        let new = Finding {
            kind,
            side,
            zone,
            severity,
            bounds: Bounds::EMPTY,
        };
        if !self.0.iter().any(|old| conflict(old, &new) || conflict(&new, old)) {
            self.0.push(new);
        }
    }

    fn heart(&mut self, random: &mut Random) {
        let severity = severity(random);
        let (low, high) = severity.of([(0.550, 0.585), (0.595, 0.64), (0.65, 0.71)]);
        let cardiothoracic_ratio = random.between(low, high);
        self.add(Kind::Cardiomegaly { cardiothoracic_ratio }, None, None, Some(severity));
    }

    fn mediastinum(&mut self, random: &mut Random) {
        self.add(Kind::EnlargedMediastinum, None, None, Some(severity(random)));
    }

    fn effusion(&mut self, side: Option<Side>, random: &mut Random) {
        let side = side.unwrap_or_else(|| either(random));
        self.add(Kind::PleuralEffusion, Some(side), None, Some(severity(random)));
    }

    fn pneumothorax(&mut self, side: Option<Side>, random: &mut Random) {
        let side = side.unwrap_or_else(|| either(random));
        self.add(Kind::Pneumothorax, Some(side), None, Some(severity(random)));
    }

    fn consolidation(&mut self, side: Option<Side>, random: &mut Random) {
        let side = side.unwrap_or_else(|| either(random));
        let severity = severity(random);
        let air_bronchograms = severity > Severity::Mild && random.chance(0.6);
        let zone = zone(random, [0.25, 0.3, 0.45]);
        self.add(
            Kind::Consolidation { air_bronchograms },
            Some(side),
            Some(zone),
            Some(severity),
        );
    }

    fn opacity(&mut self, random: &mut Random) {
        let zone = zone(random, [0.3, 0.3, 0.4]);
        self.add(
            Kind::LungOpacity,
            Some(either(random)),
            Some(zone),
            Some(severity(random)),
        );
    }

    fn edema(&mut self, random: &mut Random) {
        self.add(Kind::Edema, None, None, Some(severity(random)));
    }

    fn atelectasis(&mut self, side: Option<Side>, random: &mut Random) {
        let side = side.unwrap_or_else(|| either(random));
        let severity = severity(random);
        let volume_loss = severity > Severity::Mild && random.chance(0.5);
        self.add(
            Kind::Atelectasis { volume_loss },
            Some(side),
            Some(Zone::Lower),
            Some(severity),
        );
    }

    fn lesion(&mut self, random: &mut Random) {
        let mass = random.chance(0.35);
        let diameter = if mass {
            random.between(3.2, 5.0)
        } else {
            random.between(1.5, 2.8)
        };
        let calcified = !mass && random.chance(0.25);
        let zone = zone(random, [0.4, 0.35, 0.25]);
        let diameter_cm = (diameter * 10.0).round() / 10.0;
        self.add(
            Kind::LungLesion { diameter_cm, calcified },
            Some(either(random)),
            Some(zone),
            None,
        );
    }

    fn fracture(&mut self, side: Option<Side>, random: &mut Random) {
        let side = side.unwrap_or_else(|| either(random));
        let rib = 4 + random.below(5) as u8;
        let last = rib + random.weighted([(0, 0.3), (1, 0.4), (2, 0.3)]);
        self.add(Kind::RibFracture { rib, last }, Some(side), None, None);
    }

    /// 0 endotracheal tube, 1 pacemaker, 2 central line, else sternal wires.
    fn device(&mut self, which: usize, random: &mut Random) {
        match which {
            0 => {
                let (position, low, high) = random.weighted([
                    ((TubePosition::Satisfactory, 3.0, 6.0), 0.64),
                    ((TubePosition::High, 7.2, 9.0), 0.13),
                    ((TubePosition::Low, 0.6, 1.8), 0.13),
                    ((TubePosition::RightMainBronchus, -2.2, -1.8), 0.10),
                ]);
                let tip = (random.between(low, high) * 10.0).round() / 10.0;
                let kind = Kind::EndotrachealTube {
                    position,
                    tip_above_carina_cm: tip,
                };
                self.add(kind, None, None, None);
            }
            1 => {
                let leads = 1 + u8::from(random.chance(0.6));
                let side = if random.chance(0.75) { Side::Left } else { Side::Right };
                self.add(Kind::Pacemaker { leads }, Some(side), None, None);
            }
            2 => {
                let approach = random.weighted([
                    (Approach::InternalJugular, 0.5),
                    (Approach::Subclavian, 0.2),
                    (Approach::Peripheral, 0.3),
                ]);
                let tip = random.weighted([
                    (LineTip::SuperiorVenaCava, 0.5),
                    (LineTip::CavoatrialJunction, 0.3),
                    (LineTip::RightAtrium, 0.2),
                ]);
                let side = if random.chance(0.65) { Side::Right } else { Side::Left };
                self.add(Kind::CentralLine { approach, tip }, Some(side), None, None);
            }
            _ => {
                let count = 5 + random.below(3) as u8;
                self.add(Kind::SternalWires { count }, None, None, None);
            }
        }
    }
}

fn severity(random: &mut Random) -> Severity {
    random.weighted([
        (Severity::Mild, 0.36),
        (Severity::Moderate, 0.40),
        (Severity::Severe, 0.24),
    ])
}

fn either(random: &mut Random) -> Side {
    random.pick([Side::Right, Side::Left])
}

fn zone(random: &mut Random, [upper, mid, lower]: [f32; 3]) -> Zone {
    random.weighted([(Zone::Upper, upper), (Zone::Mid, mid), (Zone::Lower, lower)])
}

/// Whether `old` stands in the way of `new`.
fn conflict(old: &Finding, new: &Finding) -> bool {
    let here = old.side == new.side;
    let drowned = old.severity == Some(Severity::Severe);
    let pleural = |kind: &Kind| matches!(kind, Kind::PleuralEffusion | Kind::Pneumothorax);
    let shadow = |kind: &Kind| {
        matches!(
            kind,
            Kind::Consolidation { .. } | Kind::LungOpacity | Kind::LungLesion { .. }
        )
    };
    if old.kind.same(&new.kind) {
        // A second of a kind is possible where the sides tell them apart.
        return here || !matches!(new.kind, Kind::PleuralEffusion);
    }
    match (&old.kind, &new.kind) {
        // One kind of layer on a side, and air on one side only.
        (a, b) if pleural(a) && pleural(b) => here,
        // Fluid drowns what lies in it.
        (Kind::PleuralEffusion, b) if here && (shadow(b) || matches!(b, Kind::Atelectasis { .. })) => {
            drowned
                || (old.severity == Some(Severity::Moderate) && new.zone == Some(Zone::Lower))
                || (matches!(b, Kind::Atelectasis { .. }) && old.severity != Some(Severity::Mild))
        }
        // A collapsed lung shows nothing else.
        (Kind::Pneumothorax, b) if here => drowned && (shadow(b) || matches!(b, Kind::Atelectasis { .. })),
        (Kind::Pneumothorax, Kind::Edema) => drowned,
        // Water everywhere hides haze and nodules.
        (Kind::Edema, Kind::LungOpacity | Kind::LungLesion { .. }) => true,
        (Kind::Edema, Kind::Consolidation { .. }) => drowned,
        // Two shadows in one lung would read as one.
        (a, b) if shadow(a) && shadow(b) => here,
        (Kind::Atelectasis { .. }, b) if shadow(b) => here && new.zone == Some(Zone::Lower),
        // A heart over half the chest hides the base beside it.
        (Kind::Cardiomegaly { .. }, b) if drowned && (shadow(b) || matches!(b, Kind::Atelectasis { .. })) => {
            new.side == Some(Side::Left) && new.zone == Some(Zone::Lower)
        }
        // A generator would lie on it.
        (Kind::Pacemaker { .. }, b) if here && shadow(b) => new.zone == Some(Zone::Upper),
        _ => false,
    }
}
