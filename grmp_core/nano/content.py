"""Content words: ImageNet's classes as sentences, and the nine scenes that they imply.

Shapes: B images, C = 1,000 classes in ImageNet's order, S = 9 scenes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grmp_core.errors import InputError

SCENE_WORDS: dict[str, tuple[str, ...]] = {
    "animal": ("animal",),
    "cityscape": ("cityscape", "city"),
    "human": ("human", "person"),
    "indoor": ("indoor", "indoor scene", "indoor room"),
    "landscape": ("landscape", "natural landscape"),
    "night": ("night", "night scene"),
    "plant": ("plant", "plant or flower"),
    "still_life": ("still_life", "still-life", "still life"),
    "others": ("others", "other things"),
}
"""The nine scenes of LIQE and of the published GRMP-IQA code; the first word of each is the published one."""
SCENES = tuple(SCENE_WORDS)
MIN_KNOWN = 0.4
"""Probability that a photo's classes must have in common scenes before it gets a scene label."""
NIGHT_LUMA = 48.0
"""Mean luma (0..255) below which an outdoor photo counts as one of the night."""

_RANGES = (
    (0, 397, "animal"),
    (924, 969, "still_life"),
    (970, 980, "landscape"),
    (981, 983, "human"),
    (984, 998, "plant"),
)
_BY_WORD = {
    "cityscape": "beacon bell_cote bullet_train cab castle church cinema convertible dome electric_locomotive "
    "fire_engine flagpole fountain freight_car garbage_truck gas_pump grille gondola jeep jinrikisha limousine "
    "manhole_cover minibus minivan monastery moped mosque motor_scooter moving_van obelisk palace parking_meter "
    "passenger_car pay-phone pickup police_van prison recreational_vehicle school_bus scoreboard sports_car "
    "steam_locomotive steel_arch_bridge streetcar street_sign stupa suspension_bridge tow_truck traffic_light "
    "trailer_truck triumphal_arch trolleybus turnstile vault viaduct beach_wagon ambulance bell_cote car_mirror "
    "planetarium tile_roof water_tower unicycle tricycle",
    "indoor": "altar barbershop barber_chair bakery bathtub bookcase bookshop butcher_shop china_cabinet confectionery "
    "cradle crib desk dining_table dishwasher entertainment_center file fire_screen four-poster grand_piano "
    "grocery_store home_theater library medicine_chest microwave organ patio pool_table radiator refrigerator "
    "restaurant rocking_chair shoe_shop shoji shower_curtain sliding_door stage stove studio_couch table_lamp "
    "television theater_curtain throne tobacco_shop toilet_seat toyshop tub upright wardrobe washbasin washer "
    "window_screen window_shade desktop_computer monitor screen quilt pillow chiffonier bassinet plate_rack safe "
    "vending_machine photocopier space_heater wall_clock lampshade",
    "landscape": "barn boathouse breakwater canoe catamaran cliff_dwelling dam dock drilling_platform dogsled "
    "harvester hay lakeside liner lumbermill maze megalith mountain_tent paddle paddlewheel parachute picket_fence "
    "pier plow rapeseed schooner seashore snowmobile snowplow speedboat stone_wall thatch thresher tractor trimaran "
    "wing worm_fence wreck yawl yurt airliner airship balloon aircraft_carrier container_ship fireboat lifeboat "
    "chainlink_fence park_bench radio_telescope golfcart solar_dish",
    "human": "abaya academic_gown apron bathing_cap bearskin bib bikini bolo_tie bonnet bow_tie brassiere "
    "bulletproof_vest cardigan cloak cowboy_hat crutch cuirass diaper face_powder feather_boa fur_coat gasmask gown "
    "hair_slide hair_spray hoopskirt horizontal_bar jean jersey kimono lab_coat lipstick lotion maillot "
    "military_uniform miniskirt mitten mortarboard neck_brace necklace overskirt oxygen_mask pajama parallel_bars "
    "poncho rugby_ball sarong shower_cap ski ski_mask sombrero stethoscope stole suit sunglass sunglasses sunscreen "
    "sweatshirt swimming_trunks swing trench_coat vestment volleyball wig Windsor_tie balance_beam basketball "
    "barbell dumbbell punching_bag racket snorkel maypole",
    "plant": "greenhouse pot head_cabbage broccoli cauliflower artichoke cardoon mushroom honeycomb",
    "still_life": "ashcan beaker beer_bottle beer_glass bottlecap bucket candle cocktail_shaker coffee_mug coffeepot "
    "corkscrew cup eggnog espresso_maker fountain_pen frying_pan goblet hourglass ladle measuring_cup mixing_bowl "
    "mortar perfume piggy_bank pill_bottle pitcher plate pop_bottle quill saltshaker soup_bowl spatula teapot teddy "
    "tray vase water_bottle water_jug whiskey_jug wine_bottle wok wooden_spoon red_wine espresso analog_clock "
    "caldron can_opener cassette digital_clock envelope hammer lighter loupe magnetic_compass packet pencil_box "
    "pencil_sharpener reflex_camera Polaroid_camera stopwatch sundial wallet purse shopping_basket book_jacket "
    "comic_book crossword_puzzle jigsaw_puzzle notebook mouse computer_keyboard laptop remote_control radio "
    "running_shoe sandal Loafer clog screwdriver scale strainer thimble wool rubber_eraser rule bagel",
    "others": "web_site menu digital_watch odometer oscilloscope slot switch screw nail",
}


def scene_table(class_names: Sequence[str]) -> np.ndarray:
    """(C, S) 0/1: the scene that a class implies; a row of zeros where it implies none.

    `class_names`: ImageNet's 1,000 classes in its order, words joined by "_". InputError for another number of them.
    """
    if len(class_names) != 1000:
        raise InputError(f"{len(class_names)} class names; ImageNet has 1,000: give one sample photo a class")
    by_word = {word: scene for scene, words in _BY_WORD.items() for word in words.split()}
    table = np.zeros((len(class_names), len(SCENES)), dtype=np.float32)
    for first, last, scene in _RANGES:
        table[first : last + 1, SCENES.index(scene)] = 1
    for index, name in enumerate(class_names):
        if index > 397 and name in by_word:
            table[index] = 0
            table[index, SCENES.index(by_word[name])] = 1
    return table


def scene_weights(classes_BC: np.ndarray, table_CS: np.ndarray, luma_B: np.ndarray) -> np.ndarray:
    """(B, S) weights of the scenes, adding up to 1, or a row of zeros for photos whose classes say too little.

    `luma_B`: mean luma (0..255) of each photo. No class is of the night: dark photos of cities and land are.
    """
    scenes_BS = classes_BC.astype(np.float32) @ table_CS
    known_B = scenes_BS.sum(axis=1)
    weights_BS = np.where((known_B >= MIN_KNOWN)[:, None], scenes_BS / known_B.clip(1e-6)[:, None], 0)
    dark_B = luma_B < NIGHT_LUMA
    for scene in ("cityscape", "landscape"):
        place = SCENES.index(scene)
        weights_BS[dark_B, SCENES.index("night")] += weights_BS[dark_B, place]
        weights_BS[dark_B, place] = 0
    return weights_BS


def words_of_scenes(rng: np.random.Generator | None = None) -> list[str]:
    """One word a scene: the published one without a Generator."""
    return [words[0 if rng is None else int(rng.integers(len(words)))] for words in SCENE_WORDS.values()]
