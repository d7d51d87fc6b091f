//! What the article's notebook printed: Pets, 224 pixels, torchvision's weights, fastai in 2021 on a rented GPU.
//! (ohmeow, *A Journey Through Fastbook: Chapter 5*, 2021.)

/// An epoch: train_loss, valid_loss, error_rate, seconds.
pub type Epoch = [f64; 4];

/// `lr_min, lr_steep` of the first search.
pub const LR_FIND: (f64, f64) = (0.010000000149011612, 0.0063095735386013985);

/// `learn.fine_tune(2, base_lr=1e-2)`: an epoch for the head, two for everything.
pub const FINE_TUNE: [Epoch; 3] =
    [[0.988194, 0.477657, 0.131258, 65.0], [0.990748, 0.932280, 0.228687, 69.0], [0.537608, 0.289773, 0.089986, 67.0]];

/// `learn.fit_one_cycle(2, lr_max=1e-2)`, the head alone.
pub const HEAD: [Epoch; 2] = [[1.094374, 0.674852, 0.180650, 65.0], [0.645389, 0.303023, 0.096752, 63.0]];

/// `learn.fit_one_cycle(12, lr_max=slice(1e-6, 1e-4))`, everything.
pub const UNFROZEN: [Epoch; 12] = [
    [0.394857, 0.291812, 0.091340, 66.0],
    [0.359788, 0.266810, 0.084574, 65.0],
    [0.315511, 0.248843, 0.078484, 65.0],
    [0.308508, 0.245649, 0.081191, 66.0],
    [0.272639, 0.231762, 0.077131, 66.0],
    [0.231295, 0.222235, 0.075778, 66.0],
    [0.216695, 0.223222, 0.077808, 66.0],
    [0.207144, 0.226977, 0.075778, 67.0],
    [0.191794, 0.223768, 0.075778, 67.0],
    [0.193688, 0.222243, 0.076455, 67.0],
    [0.185064, 0.219272, 0.076455, 67.0],
    [0.177980, 0.221938, 0.073072, 67.0],
];

/// `learn.fine_tune(6, freeze_epochs=1)` of a ResNet-50 in half precision.
pub const RESNET50: [Epoch; 7] = [
    [0.977287, 0.299639, 0.100812, 66.0],
    [0.371637, 0.253767, 0.080514, 67.0],
    [0.375325, 0.300937, 0.079161, 67.0],
    [0.281241, 0.309774, 0.089310, 67.0],
    [0.149089, 0.216163, 0.059540, 67.0],
    [0.093488, 0.176675, 0.054127, 67.0],
    [0.063744, 0.169187, 0.050744, 67.0],
];
