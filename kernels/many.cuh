// Work on many tensors in one launch.
//
// A network has some hundred parameters, most of them small. A launch for each would cost more than the work; so the host uploads
// one table of tensors and one table of pieces, a piece being at most PIECE numbers of one tensor, and a block does a piece.

#pragma once
#include "common.cuh"

#define PIECE 65536

struct Piece {
    i32 tensor; // its place in the table of tensors
    i32 count;  // numbers
    i64 from;   // the first of them
};
LAYOUT(Piece, tensor, count, from)
