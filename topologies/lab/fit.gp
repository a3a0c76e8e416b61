# Fit a sum of decays over a background to input.dat, from many places; words as decays=2 come as arguments.
decays = 1
starts = 40
do for [i = 1:ARGC] { eval value(sprintf("ARG%d", i)) }

set fit quiet logfile "fit.log"
set print "starts.dat"
one(x) = height * exp(-x / life) + ground
two(x) = one(x) + height2 * exp(-x / life2)

best = 1e300
do for [k = 1:starts] {
    height = 500; height2 = 500; ground = 10
    life = 0.1 * 1.15 ** k
    life2 = 20.0 / 1.1 ** k
    if (decays == 1) {
        fit one(x) "input.dat" using 1:2:3 yerrors via height, life, ground
    } else {
        fit two(x) "input.dat" using 1:2:3 yerrors via height, life, height2, life2, ground
    }
    rest = FIT_WSSR / FIT_NDF
    print sprintf("%d %g", k, rest)
    if (rest < best && life > 0 && life2 > 0) {
        best = rest
        b_height = height; b_life = life; b_height2 = height2; b_life2 = life2; b_ground = ground
    }
}
if (best == 1e300) { set print "-"; print "no fit came to an end"; exit status 3 }

height = b_height; life = b_life; height2 = b_height2; life2 = b_life2; ground = b_ground
set print "result.dat"
print sprintf("rest %.4f", best)
print sprintf("life %.4f", life)
if (decays == 2) { print sprintf("life %.4f", life2) }
set samples 200
set table "curve.dat"
plot [0:20] (decays == 1 ? one(x) : two(x))
