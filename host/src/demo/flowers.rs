//! The 150 iris flowers, split into some to train on and the rest to stream: the same split every time.

/// Fisher's data set, as `data/README.md` describes it.
const DATA: &str = include_str!("../../../data/iris.csv");
/// Flowers of the 150 that models are trained on.
const TRAINING: usize = 50;
const SEED: u64 = 1936;

pub const COLUMNS: [&str; 4] = ["sepal_length", "sepal_width", "petal_length", "petal_width"];
pub const CLASSES: [&str; 3] = ["setosa", "versicolor", "virginica"];

#[derive(Clone, Debug, PartialEq)]
pub struct Flower {
    /// The four measurements as the file has them, in the order of `COLUMNS`.
    pub line: &'static str,
    /// The measurements as numbers.
    pub cells: Vec<f32>,
    /// Index into `CLASSES`.
    pub class: usize,
}

/// Both parts; no flower is in both, so that accuracy is measured on flowers that no model has seen.
pub struct Flowers {
    pub training: Vec<Flower>,
    pub streamed: Vec<Flower>,
}

impl Flowers {
    /// Splits them so that each class has the same share in both parts, give or take one flower.
    pub fn split() -> Self {
        let mut random = Random::new(SEED);
        let mut by_class = vec![Vec::new(); CLASSES.len()];
        for flower in DATA.lines().skip(1).filter_map(read) {
            if let Some(same) = by_class.get_mut(flower.class) {
                same.push(flower);
            }
        }
        let (mut training, mut streamed) = (Vec::new(), Vec::new());
        for (at, mut flowers) in by_class.into_iter().enumerate() {
            random.shuffle(&mut flowers);
            let share = (TRAINING + CLASSES.len() - 1 - at) / CLASSES.len();
            streamed.extend(flowers.split_off(share.min(flowers.len())));
            training.extend(flowers);
        }
        Self { training, streamed }
    }
}

fn read(line: &'static str) -> Option<Flower> {
    let (line, class) = line.rsplit_once(',')?;
    let class = CLASSES.iter().position(|known| *known == class)?;
    let cells = line.split(',').map(|cell| cell.parse().ok()).collect::<Option<Vec<f32>>>()?;
    Some(Flower { line, cells, class })
}

/// SplitMix64 (Steele, Lea and Flood, 2014): equal seeds give equal numbers, on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `bound`, near enough to evenly for a demonstration.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_share_of_both_parts() {
        let flowers = Flowers::split();
        let of = |flowers: &[Flower], class| flowers.iter().filter(|flower| flower.class == class).count();
        assert_eq!([0, 1, 2].map(|class| of(&flowers.training, class)), [17, 17, 16]);
        assert_eq!([0, 1, 2].map(|class| of(&flowers.streamed, class)), [33, 33, 34]);
        assert!(flowers.streamed.iter().all(|flower| flower.cells.len() == COLUMNS.len()));
    }

    #[test]
    fn the_split_is_the_same_every_time() {
        let (one, other) = (Flowers::split(), Flowers::split());
        assert_eq!((one.training, one.streamed), (other.training, other.streamed));
    }
}
