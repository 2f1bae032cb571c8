// Runs one encoded program under another processor's emulator: bitsim_driver IN OUT, both raw numbers of this machine.
//
// IN: int64s n, code[n]; blobs n, then (bytes, data) each; samples, doubles; inputs n, then (element, fraction, bytes,
// data) each; outputs n, then bytes each. Data are padded to 64 bytes. OUT: the outputs one after the other.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" {
const char *bitsim_isa();
void *bitsim_create(const int64_t *code, const void *const *blobs, int64_t n_blobs);
int bitsim_run(void *, void *, const void *const *, const int32_t *, const int32_t *, void *const *, int64_t, int, int,
               int64_t *, int64_t);
}

static FILE *in;

static int64_t number() {
    int64_t n = 0;
    if (fread(&n, sizeof n, 1, in) != 1)
        throw 1;
    return n;
}

static char *block(int64_t bytes) {
    char *data = (char *)aligned_alloc(64, (size_t)(bytes + 127) / 64 * 64);
    if (bytes && fread(data, (size_t)bytes, 1, in) != 1)
        throw 1;
    return data;
}

int main(int, char **argv) {
    in = fopen(argv[1], "rb");
    FILE *out = fopen(argv[2], "wb");
    const int64_t n_code = number();
    const int64_t *code = (const int64_t *)block(8 * n_code);
    std::vector<const void *> blobs(number());
    for (auto &blob : blobs)
        blob = block(number());
    const int64_t samples = number(), doubles = number();
    std::vector<const void *> inputs(number());
    std::vector<int32_t> elements, fractions;
    for (auto &input : inputs) {
        elements.push_back((int32_t)number());
        fractions.push_back((int32_t)number());
        input = block(number());
    }
    std::vector<void *> outputs(number());
    std::vector<int64_t> sizes;
    for (auto &output : outputs) {
        sizes.push_back(number());
        output = aligned_alloc(64, (size_t)(sizes.back() + 127) / 64 * 64);
    }
    void *program = bitsim_create(code, blobs.data(), (int64_t)blobs.size());
    if (!program)
        return 2;
    const int status = bitsim_run(program, nullptr, inputs.data(), elements.data(), fractions.data(), outputs.data(),
                                  samples, (int)doubles, 2, nullptr, 0);
    for (size_t i = 0; i < outputs.size(); i++)
        fwrite(outputs[i], 1, (size_t)sizes[i], out);
    fclose(out);
    puts(bitsim_isa());
    return status;
}
