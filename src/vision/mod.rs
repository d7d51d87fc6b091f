//! Pictures: decoding, resizing, augmentation, showing.
