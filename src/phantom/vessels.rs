//! Hila, branching pulmonary vessels, trachea and main bronchi.

use super::beam::Beam;
use super::body::{Body, attenuation};
use super::canvas::{Canvas, Matter, Station, curve};
use super::noise::smoothstep;
use super::random::{Purpose, Random};
use super::thorax::Thorax;
use super::truth::Side;

/// How the vessels are filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Perfusion {
    /// Width of upper and lower vessels relative to normal: standing, the lower ones are wider.
    pub(super) upper: f32,
    pub(super) lower: f32,
    /// 0 crisp, 1 drowned in interstitial water.
    pub(super) blur: f32,
}

struct Branch {
    at: [f32; 3],
    direction: [f32; 3],
    radius: f32,
    length: f32,
    generation: u8,
    /// Of the stream this branch and all that grows from it draw from: what is cut off changes nothing elsewhere.
    seed: u64,
}

/// Where the vessels of a side come from.
pub(super) fn hilum(body: &Body, thorax: &Thorax, side: Side) -> [f32; 3] {
    let height = match side {
        Side::Right => body.carina + 2.4,
        Side::Left => body.carina + 1.5,
    };
    let out = match side {
        Side::Right => -3.2,
        Side::Left => 3.3,
    };
    [out + thorax.shift, height, -0.5]
}

/// Draws both trees. `depth` is the length of lung per pixel: vessels show only where there is lung around them.
pub(super) fn pulmonary(
    canvas: &mut Canvas,
    beam: &Beam,
    body: &Body,
    thorax: &Thorax,
    depth: &[f32],
    perfusion: Perfusion,
    random: &mut Random,
) {
    for side in [Side::Right, Side::Left] {
        let root = hilum(body, thorax, side);
        let out = side.sign();
        // Direction (outwards, down, forward) and radius of the lobar vessels.
        let trunks = [
            ([0.45, -1.0, -0.15], 0.42, perfusion.upper),
            ([0.75, -0.75, 0.25], 0.38, perfusion.upper),
            ([1.0, -0.28, 0.2], 0.34, perfusion.upper),
            ([1.0, 0.10, -0.3], 0.34, perfusion.lower),
            ([0.95, 0.42, 0.3], 0.40, perfusion.lower),
            ([0.38, 1.0, -0.2], 0.62, perfusion.lower),
            ([0.62, 0.85, 0.25], 0.46, perfusion.lower),
            ([0.16, 1.0, -0.35], 0.48, perfusion.lower),
        ];
        let mut queue: Vec<Branch> = trunks
            .into_iter()
            .map(|([x, y, z], radius, fill)| Branch {
                at: [root[0] + out * random.between(-0.5, 0.2), root[1] + 0.8 * y, root[2]],
                direction: unit([
                    out * x + random.normal(0.0, 0.08),
                    y + random.normal(0.0, 0.08),
                    z + random.normal(0.0, 0.1),
                ]),
                radius: radius * fill * random.between(0.88, 1.1),
                length: random.between(2.4, 3.6),
                generation: 0,
                seed: u64::from(random.bits()),
            })
            .collect();
        while let Some(branch) = queue.pop() {
            grow(canvas, beam, body, thorax, depth, perfusion, branch, &mut queue);
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one step of a recursion over the whole chest")]
fn grow(
    canvas: &mut Canvas,
    beam: &Beam,
    body: &Body,
    thorax: &Thorax,
    depth: &[f32],
    perfusion: Perfusion,
    branch: Branch,
    queue: &mut Vec<Branch>,
) {
    let random = &mut Random::new(branch.seed, u64::from(branch.generation), Purpose::Vessels);
    let steps = 5;
    let mut path = vec![Station {
        at: branch.at,
        radius: branch.radius,
    }];
    let (mut at, mut direction) = (branch.at, branch.direction);
    for step in 1..=steps {
        let wander = 0.11;
        direction = unit(direction.map(|axis| axis + random.normal(0.0, wander)));
        let length = branch.length / steps as f32;
        at = [0, 1, 2].map(|axis| at[axis] + direction[axis] * length);
        let taper = 1.0 - 0.14 * step as f32 / steps as f32;
        path.push(Station {
            at,
            radius: branch.radius * taper,
        });
    }
    let strength = (attenuation::SOFT - attenuation::LUNG) * body.vessel_strength * (1.0 - 0.45 * perfusion.blur);
    let size = canvas.size;
    canvas.tube_where(beam, &path, Matter::Solid(strength), |index, _, _| {
        debug_assert!(index < size * size);
        smoothstep(0.0, 3.0, depth[index])
    });
    let inside = thorax.depth_at(beam, at) > 0.4 || branch.generation < 1;
    if branch.generation >= 7 || branch.radius < 0.055 || !inside {
        return;
    }
    // Murray's law: the cubes of the radii add up.
    let share = random.between(0.30, 0.62);
    let spread = random.between(0.55, 0.95);
    let turn = random.between(0.0, std::f32::consts::TAU);
    for (portion, bend) in [(share, spread), (1.0 - share, -spread * share / (1.0 - share))] {
        let radius = 0.92 * branch.radius * portion.cbrt();
        let off = [bend * turn.cos(), bend * turn.sin(), 0.4 * bend * (turn * 1.7).sin()];
        // Everything tends outwards from the hilum.
        let outward = 0.10 * at[0].signum();
        queue.push(Branch {
            at,
            direction: unit([
                direction[0] + off[0] + outward,
                direction[1] + off[1],
                direction[2] + off[2],
            ]),
            radius,
            length: random.between(1.2, 2.1) * (0.75 + 0.5 * radius / 0.3).min(1.5),
            generation: branch.generation + 1,
            seed: u64::from(random.bits()),
        });
    }
}

fn unit(vector: [f32; 3]) -> [f32; 3] {
    let length = vector.iter().map(|axis| axis * axis).sum::<f32>().sqrt().max(1e-6);
    vector.map(|axis| axis / length)
}

/// The axis of the trachea at height y.
pub(super) fn trachea_at(thorax: &Thorax, y: f32) -> [f32; 3] {
    let [x, carina, z] = thorax.carina;
    let low = smoothstep(-5.0, carina, y);
    [x * low, y, z + 3.0 * (1.0 - low)]
}

/// Axis of a main bronchus; `place` runs from the carina (0) to the hilum (1).
pub(super) fn main_bronchus(body: &Body, thorax: &Thorax, side: Side, place: f32) -> [f32; 3] {
    let hilum = hilum(body, thorax, side);
    let end = match side {
        Side::Right => [hilum[0] + 0.4, thorax.carina[1] + 2.6, -1.2],
        Side::Left => [hilum[0] + 0.6, thorax.carina[1] + 2.9, -1.6],
    };
    [0, 1, 2].map(|axis| thorax.carina[axis] + (end[axis] - thorax.carina[axis]) * place)
}

/// Trachea and main bronchi: air in soft tissue.
pub(super) fn airways(canvas: &mut Canvas, beam: &Beam, body: &Body, thorax: &Thorax) {
    let air = Matter::Solid(-attenuation::SOFT);
    let trachea: Vec<_> = (0..=14)
        .map(|step| {
            let y = -7.0 + (thorax.carina[1] + 7.0) * step as f32 / 14.0;
            Station {
                at: trachea_at(thorax, y),
                radius: 0.85,
            }
        })
        .collect();
    canvas.tube(beam, &trachea, air);
    for side in [Side::Right, Side::Left] {
        let path = curve(
            &[0.15, 0.5, 1.0].map(|place| Station {
                at: main_bronchus(body, thorax, side, place),
                radius: 0.62 - 0.12 * place,
            }),
            4,
        );
        canvas.tube(beam, &path, Matter::Solid(-0.8 * attenuation::SOFT));
    }
}
