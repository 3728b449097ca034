//! The vocabulary: common words of three to nine letters, an eighth of them for validation and an eighth for test.
//!
//! None of them occurs in a question's wording or in the fixed words of signs and receipts ("TOTAL", "GATE").

use std::sync::OnceLock;

use crate::random::hash;
use crate::synthetic::Split;

/// Things that a receipt lists.
const GOODS: &str = "apple bacon bagel banana basil beans beef berries biscuit bread broccoli brush butter cabbage cake \
    candle candy carrot celery cereal cheese cherry chicken chips cider cocoa coffee cookie corn crackers cream cumin \
    curry dates donut dumpling eggs fennel fig fish flour garlic ginger gloves grapes ham hazelnut honey jam jelly juice \
    kale ketchup kiwi lamb lemon lentils lettuce lime lobster mango melon milk mint muffin mushroom mustard napkins \
    noodles nuts oats olives onion oregano pancake papaya pasta pastry peach peanut pear peas pepper pickles pie pizza \
    plum popcorn pork potato prawns pretzel pudding pumpkin quinoa radish raisins rice rolls salad salami salmon salt \
    sausage scone shampoo shrimp soap soda soup soy spinach sponge steak sugar sushi syrup tea tissue toast tofu tomato \
    towel tuna turkey turnip vanilla vinegar waffle walnut water wheat wine yeast yogurt zucchini";

/// Other words.
const OTHERS: &str = "acorn admiral agent alpine amber anchor angel ankle antler anvil apron arbor arena armor arrow \
    artist aspen atlas attic autumn avenue badge baker balcony ballet bamboo banjo banner barley barn barrel basin basket \
    beach beacon bear beaver bench birch bishop blanket blossom boat bonnet border bottle boulder bracket branch breeze \
    brick bridge bronze brook bucket buffalo bugle butler button cabin cactus camel camera campus canal canoe canvas \
    canyon captain caravan cargo carpet castle cavern cedar cellar chapel chimney cinema circus citrus clay cliff clinic \
    cloud clover coast cobalt comet compass copper coral cottage cotton cradle crane crater crown crystal cymbal dairy \
    dancer desert dolphin domino dragon drum duck eagle echo elbow elm ember emerald empire engine falcon farmer feather \
    ferry fiddle field flag flame flute forest fossil fountain fox galaxy gallery garden garnet geyser giant glacier \
    globe goat goose granite grove guitar gull hammer harbor harp hawk hazel hedge helmet heron hill hollow hornet \
    horse hotel hunter igloo island ivory ivy jacket jaguar jasmine jersey jewel jungle kayak kettle kitten knight \
    ladder lagoon lake lantern laurel lava lawyer leaf legend lemur library lily linen lion lizard locket lotus lumber \
    magnet mansion maple marble market marsh meadow medal melody mercury meteor mirror mitten monarch moss mountain \
    museum nectar needle nest night noble north nurse oasis ocean octopus olive opera orbit orchard orchid osprey otter \
    oven owl oyster paddle palace panda panther parade parrot pebble pelican pencil penguin petal piano pigeon pilot \
    pine pirate planet plaza poet pony poplar portal prairie prince prism puzzle python quail quartz queen rabbit radar \
    raft rainbow ranch raven reef ribbon ridge river robin rocket rooster rose ruby saddle sailor sapphire satin scarf \
    school sculptor seal shadow shell shepherd shore silk silver singer spark sparrow spider spruce stable statue \
    steeple stone stork storm stream summit sunset swan temple theater thistle thunder tiger timber torch tower tractor \
    trumpet tulip tunnel turtle valley velvet village violin walrus wagon willow window winter wizard wolf yacht zebra";

/// The split that owns a word.
pub fn home_of(word: &str) -> Split {
    match hash(word.as_bytes()) % 8 {
        0 => Split::Validation,
        1 => Split::Test,
        _ => Split::Train,
    }
}

/// The words of a split, which no other split shares.
pub(super) struct Vocabulary {
    pub(super) goods: Vec<&'static str>,
    pub(super) all: Vec<&'static str>,
}

pub(super) fn of(split: Split) -> &'static Vocabulary {
    static WORDS: [OnceLock<Vocabulary>; 3] = [const { OnceLock::new() }; 3];
    WORDS[split as usize].get_or_init(|| {
        let own = |list: &'static str| list.split_whitespace().filter(move |word| home_of(word) == split);
        Vocabulary { goods: own(GOODS).collect(), all: own(GOODS).chain(own(OTHERS)).collect() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_has_words_enough_and_none_twice() {
        let mut seen = std::collections::HashSet::new();
        for split in Split::ALL {
            let words = of(split);
            assert!(words.goods.len() >= 10 && words.all.len() >= 45, "{split}: {}", words.all.len());
            for word in &words.all {
                assert!(seen.insert(*word), "{word} twice");
                assert!(
                    (3..=9).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase()),
                    "{word}"
                );
            }
        }
        assert!(seen.len() > 450, "{}", seen.len());
    }
}
