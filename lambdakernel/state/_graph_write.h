/* A pickle of what a snapshot wrote down. Included by _graph.c.

   Theory of operation
   - Every object is made and gets the next place in the unpickler's memo; everything that refers to it names that place.
     So nothing recurses, neither here nor in a load, and the place of each object is known without a pickler's memo.
   - Objects are made from the last that the walk met to the first: mostly what one refers to is there when it is made,
     and it is filled at once. Where it is not, it is made empty, and filled at the end. A tuple or a frozenset cannot be
     made empty: what it refers to is made before it.
   - Only exact lists, tuples, dictionaries, sets, frozensets and instances that are their class, `__dict__` and slots are
     written here, and of atoms only None, booleans, numbers, texts and bytes. Other atoms, and the classes, are in a
     pickle that comes before this one and fills the first places. Anything else: nothing is written.
   - Texts and bytes have a place as well, so that two names of one object are that afterwards; numbers have none. */

enum { NOT_WRITTEN, A_LIST, A_TUPLE, A_DICT, A_SET, A_FROZENSET, AN_INSTANCE };

typedef struct {
    PyObject **keys;
    uint32_t *places;    /* + 1 */
    size_t mask, n;
} Places;

typedef struct {
    uint32_t record;
    size_t at;           /* of the next word */
} Made;

typedef struct {
    const Snapshot *s;
    Before index;
    Places places;       /* of classes, texts and other atoms */
    PyObject *numbers_before, *gone;  /* of objects that an edit refers to, and of which not; NULL if it is no edit */
    uint32_t *numbers;   /* by record: its place + 1; 0 if it is not made */
    uint8_t *how;        /* by type: A_LIST ... AN_INSTANCE */
    const char ***slots; /* by type: the names of its slots; made when they are first needed */
    char *out;
    size_t n, room;
    uint32_t next;       /* the next place */
    uint32_t *later;     /* records to be filled at the end */
    size_t nlater, later_room;
    Made *steps;
    size_t nsteps, steps_room;
} Writer;

enum { WRITTEN = 0, REFUSED = 1, FAILED = -1 };

static int grow(void *array, size_t *room, size_t wanted, size_t size)
{
    size_t more = *room ? 2 * *room : 64;
    while (more < wanted)
        more *= 2;
    void *moved = PyMem_RawRealloc(*(void **)array, more * size);
    if (moved == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    *(void **)array = moved;
    *room = more;
    return WRITTEN;
}

/* -- bytes */

static int put(Writer *w, const void *data, size_t n)
{
    if (w->n + n > w->room && grow(&w->out, &w->room, w->n + n, 1) < 0)
        return FAILED;
    memcpy(w->out + w->n, data, n);
    w->n += n;
    return WRITTEN;
}

static inline int put_op(Writer *w, char op)
{
    return put(w, &op, 1);
}

/* `n` bytes of a number, the lowest first. */
static int put_bits(Writer *w, uint64_t value, size_t n)
{
    char bytes[8];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)(value >> 8 * i);
    return put(w, bytes, n);
}

static int put_number(Writer *w, char op, uint64_t value, size_t n)
{
    int failed = put_op(w, op);
    return failed ? failed : put_bits(w, value, n);
}

static int put_place(Writer *w, uint32_t place)
{
    return place < 256 ? put_number(w, 'h', place, 1) : put_number(w, 'j', place, 4);
}

static int put_memoize(Writer *w)
{
    w->next++;
    return put_op(w, '\x94');
}

/* -- places of what is no record */

static size_t find_place(const Places *p, const PyObject *key)
{
    size_t at = hash_of(key) & p->mask;
    while (p->keys[at] != NULL && p->keys[at] != key)
        at = (at + 1) & p->mask;
    return at;
}

static int set_place(Places *p, PyObject *key, uint32_t place)
{
    if (2 * (p->n + 1) > p->mask) {
        size_t size = p->keys != NULL ? 2 * (p->mask + 1) : 256;
        Places more = {PyMem_RawCalloc(size, sizeof *more.keys), PyMem_RawMalloc(size * sizeof *more.places), size - 1, p->n};
        if (more.keys == NULL || more.places == NULL) {
            PyMem_RawFree(more.keys);
            PyMem_RawFree(more.places);
            PyErr_NoMemory();
            return FAILED;
        }
        for (size_t i = 0; p->keys != NULL && i <= p->mask; i++)
            if (p->keys[i] != NULL) {
                size_t at = find_place(&more, p->keys[i]);
                more.keys[at] = p->keys[i];
                more.places[at] = p->places[i];
            }
        PyMem_RawFree(p->keys);
        PyMem_RawFree(p->places);
        *p = more;
    }
    size_t at = find_place(p, key);
    p->n += p->keys[at] == NULL;
    p->keys[at] = key;
    p->places[at] = place + 1;
    return WRITTEN;
}

/* The place + 1; 0 if it has none. */
static uint32_t place_of(const Places *p, const PyObject *key)
{
    size_t at = p->keys != NULL ? find_place(p, key) : 0;
    return p->keys != NULL && p->keys[at] != NULL ? p->places[at] : 0;
}

/* -- atoms */

static int is_written_as_itself(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    return type == &PyUnicode_Type || type == &PyLong_Type || type == &PyFloat_Type || o == Py_None
           || type == &PyBool_Type || type == &PyBytes_Type;
}

static int put_large_int(Writer *w, PyObject *o)
{
    PyObject *bits = PyObject_CallMethod(o, "bit_length", NULL);
    size_t n = bits != NULL ? PyLong_AsSize_t(bits) / 8 + 1 : 0;
    Py_XDECREF(bits);
    if (PyErr_Occurred())
        return FAILED;
    PyObject *method = PyObject_GetAttrString(o, "to_bytes"), *args = Py_BuildValue("(ns)", (Py_ssize_t)n, "little");
    PyObject *named = Py_BuildValue("{s:O}", "signed", Py_True);
    PyObject *bytes = method != NULL && args != NULL && named != NULL ? PyObject_Call(method, args, named) : NULL;
    int failed = bytes == NULL || n > INT32_MAX
                 || put_number(w, n < 256 ? '\x8a' : '\x8b', n, n < 256 ? 1 : 4) < 0 || put(w, PyBytes_AS_STRING(bytes), n) < 0;
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(named);
    Py_XDECREF(bytes);
    return failed ? (PyErr_Occurred() ? FAILED : REFUSED) : WRITTEN;
}

static int put_int(Writer *w, PyObject *o)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(o, &overflow);
    if (overflow)
        return put_large_int(w, o);
    if (value >= 0 && value < 256)
        return put_number(w, 'K', (uint64_t)value, 1);
    if (value >= 0 && value < 65536)
        return put_number(w, 'M', (uint64_t)value, 2);
    if (value >= INT32_MIN && value <= INT32_MAX)
        return put_number(w, 'J', (uint64_t)value, 4);
    return put_number(w, '\x8a', 8, 1) < 0 ? FAILED : put_number(w, (char)value, (uint64_t)(value >> 8), 7);
}

static int put_float(Writer *w, PyObject *o)
{
    double value = PyFloat_AS_DOUBLE(o);
    uint64_t bits;
    memcpy(&bits, &value, 8);
    char bytes[9] = {'G'};
    for (int i = 0; i < 8; i++)
        bytes[1 + i] = (char)(bits >> 8 * (7 - i));
    return put(w, bytes, 9);
}

static int put_sized(Writer *w, const char ops[3], const char *data, size_t n)
{
    int failed = n < 256 ? put_number(w, ops[0], n, 1) : n <= UINT32_MAX ? put_number(w, ops[1], n, 4) : put_number(w, ops[2], n, 8);
    return failed ? failed : put(w, data, n);
}

static int put_text(Writer *w, PyObject *o)
{
    static const char ops[3] = {'\x8c', 'X', '\x8d'};
    if (PyUnicode_IS_COMPACT_ASCII(o))
        return put_sized(w, ops, (const char *)PyUnicode_1BYTE_DATA(o), (size_t)PyUnicode_GET_LENGTH(o));
    PyObject *bytes = PyUnicode_AsEncodedString(o, "utf-8", "surrogatepass");
    if (bytes == NULL)
        return FAILED;
    int failed = put_sized(w, ops, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    Py_DECREF(bytes);
    return failed;
}

/* A text or bytes, once. */
static int put_sequence(Writer *w, PyObject *o)
{
    static const char ops[3] = {'C', 'B', '\x8e'};
    uint32_t place = place_of(&w->places, o);
    if (place != 0)
        return put_place(w, place - 1);
    int failed = PyUnicode_CheckExact(o) ? put_text(w, o) : put_sized(w, ops, PyBytes_AS_STRING(o), (size_t)PyBytes_GET_SIZE(o));
    if (failed)
        return failed;
    return set_place(&w->places, o, w->next) < 0 ? FAILED : put_memoize(w);
}

static int put_atom(Writer *w, PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    if (type == &PyUnicode_Type || type == &PyBytes_Type)
        return put_sequence(w, o);
    if (type == &PyLong_Type)
        return put_int(w, o);
    if (type == &PyFloat_Type)
        return put_float(w, o);
    if (o == Py_None)
        return put_op(w, 'N');
    if (type == &PyBool_Type)
        return put_op(w, o == Py_True ? '\x88' : '\x89');
    uint32_t place = place_of(&w->places, o);
    return place != 0 ? put_place(w, place - 1) : REFUSED;
}

/* -- objects */

/* The record that a word refers to; -1 if it refers to none, -2 with an exception. */
static Py_ssize_t record_of(Writer *w, uintptr_t word)
{
    return word & NOT_OWNED ? find_before(&w->index, (PyObject *)(word & ~NOT_OWNED)) : -1;
}

/* What an edit says of an object that was there before: its number is its persistent id. */
static int put_number_before(Writer *w, PyObject *o)
{
    if (w->numbers_before == NULL)
        return REFUSED;
    PyObject *address = PyLong_FromVoidPtr(o);
    PyObject *number = address != NULL ? PyObject_CallMethod(w->numbers_before, "get", "O", address) : NULL;
    int failed = number == NULL ? FAILED : number == Py_None ? REFUSED : PySet_Contains(w->gone, address);
    if (!failed)
        failed = put_int(w, number);
    Py_XDECREF(number);
    Py_XDECREF(address);
    return failed ? failed : put_op(w, 'Q');
}

static int put_child(Writer *w, uintptr_t word)
{
    if (!(word & NOT_OWNED))
        return put_atom(w, (PyObject *)word);
    Py_ssize_t k = record_of(w, word);
    if (k == -1)
        return put_number_before(w, (PyObject *)(word & ~NOT_OWNED));
    if (k < 0 || w->numbers[k] == 0)
        return k == -2 ? FAILED : REFUSED;
    return put_place(w, w->numbers[k] - 1);
}

static int put_children(Writer *w, const uintptr_t *from, const uintptr_t *to)
{
    int failed = WRITTEN;
    while (!failed && from < to)
        failed = put_child(w, *from++);
    return failed;
}

/* Children between a mark and an opcode; for one of them there is a shorter opcode. */
static int put_marked(Writer *w, const uintptr_t *from, const uintptr_t *to, size_t one, char op_of_one, char op)
{
    if (from == to)
        return WRITTEN;
    int is_one = (size_t)(to - from) == one;
    int failed = is_one ? WRITTEN : put_op(w, '(');
    if (!failed)
        failed = put_children(w, from, to);
    return failed ? failed : put_op(w, is_one ? op_of_one : op);
}

/* Where the words of record `i` are. */
static const uintptr_t *words_of(const Writer *w, size_t i, const uintptr_t **end)
{
    const uintptr_t *words = w->s->words + w->index.offsets[i];
    *end = words + w->s->records[i].count;
    return words;
}

/* Names of the slots of a type, in the order of its Info; NULL with an exception. */
static const char **slots_of(Writer *w, size_t type)
{
    if (w->slots[type] != NULL)
        return w->slots[type];
    const Info *info = info_at(w->s->infos, type);
    const char **names = PyMem_RawCalloc(info->nslots + 1u, sizeof *names);
    if (names == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    size_t n = 0;
    for (PyTypeObject *below = info->type; base_info(below) == NULL; below = below->tp_base)
        for (PyMemberDef *m = below->tp_members; m != NULL && m->name != NULL && n < info->nslots; m++)
            names[n++] = m->name;
    return w->slots[type] = names;
}

/* {name: value} of the slots that hold something. */
static int put_slots(Writer *w, const uintptr_t *words, size_t type)
{
    const char **names = slots_of(w, type);
    if (names == NULL)
        return FAILED;
    int failed = put(w, "}(", 2);
    for (uint16_t i = 0; !failed && i < info_at(w->s->infos, type)->nslots; i++) {
        if (words[i] == NOT_OWNED)
            continue;
        PyObject *name = PyUnicode_InternFromString(names[i]);  /* as its class has it, which keeps it */
        failed = name != NULL ? put_sequence(w, name) : FAILED;
        Py_XDECREF(name);
        if (!failed)
            failed = put_child(w, words[i]);
    }
    return failed ? failed : put_op(w, 'u');
}

/* What sets the attributes of the instance that is on the stack: its dictionary, or that and its slots. */
static int put_state(Writer *w, const uintptr_t *words, const uintptr_t *end, size_t type)
{
    const Info *info = info_at(w->s->infos, type);
    const uintptr_t *pairs = info->has_dict ? words + info->nslots + 1 : end;
    int has_slots = 0;
    for (uint16_t i = 0; i < info->nslots; i++)
        has_slots |= words[i] != NOT_OWNED;
    if (pairs == end && !has_slots)
        return WRITTEN;
    int failed = put_op(w, pairs != end ? '}' : 'N');
    if (!failed)
        failed = put_marked(w, pairs, end, 2, 's', 'u');
    if (!failed && has_slots) {
        failed = put_slots(w, words, type);
        if (!failed)
            failed = put_op(w, '\x86');
    }
    return failed ? failed : put_op(w, 'b');
}

/* An empty one, on the unpickler's stack. */
static int put_empty(Writer *w, size_t i)
{
    const Info *info = info_at(w->s->infos, w->s->records[i].type);
    int failed;
    switch (w->how[w->s->records[i].type]) {
    case A_LIST:
        failed = put_op(w, ']');
        break;
    case A_DICT:
        failed = put_op(w, '}');
        break;
    case A_SET:
        failed = put_op(w, '\x8f');
        break;
    default:
        failed = put_atom(w, (PyObject *)info->type);
        if (!failed)
            failed = put(w, ")\x81", 2);
    }
    if (failed)
        return failed;
    w->numbers[i] = w->next + 1;
    return put_memoize(w);
}

/* What fills the one that is on the stack; it is taken from there. */
static int put_content(Writer *w, size_t i)
{
    const uintptr_t *end, *words = words_of(w, i, &end);
    int failed = WRITTEN;
    switch (w->how[w->s->records[i].type]) {
    case A_LIST:
        failed = put_marked(w, words, end, 1, 'a', 'e');
        break;
    case A_DICT:
        failed = put_marked(w, words, end, 2, 's', 'u');
        break;
    case A_SET:
        failed = put_marked(w, words, end, SIZE_MAX, 0, '\x90');
        break;
    default:
        failed = put_state(w, words, end, w->s->records[i].type);
    }
    return failed ? failed : put_op(w, '0');
}

static int put_immutable(Writer *w, size_t i)
{
    const uintptr_t *end, *words = words_of(w, i, &end);
    size_t n = (size_t)(end - words);
    int is_tuple = w->how[w->s->records[i].type] == A_TUPLE, is_marked = !is_tuple || n > 3;
    int failed = is_marked ? put_op(w, '(') : WRITTEN;
    if (!failed)
        failed = put_children(w, words, end);
    if (!failed)
        failed = put_op(w, is_tuple ? (is_marked ? 't' : ")\x85\x86\x87"[n]) : '\x91');
    if (failed)
        return failed;
    w->numbers[i] = w->next + 1;
    failed = put_memoize(w);
    return failed ? failed : put_op(w, '0');
}

static int is_immutable(const Writer *w, size_t i)
{
    uint8_t how = w->how[w->s->records[i].type];
    return how == A_TUPLE || how == A_FROZENSET;
}

static int add_later(Writer *w, size_t i)
{
    if (w->nlater == w->later_room && grow(&w->later, &w->later_room, w->nlater + 1, sizeof *w->later) < 0)
        return FAILED;
    w->later[w->nlater++] = (uint32_t)i;
    return put_op(w, '0');
}

static int make_mutable(Writer *w, size_t i, int fill)
{
    int failed = put_empty(w, i);
    const uintptr_t *end, *words = words_of(w, i, &end);
    for (; !failed && fill && words < end; words++) {
        Py_ssize_t k = record_of(w, *words);
        if (k == -2)
            return FAILED;
        fill = k == -1 || w->numbers[k] != 0;
    }
    if (failed)
        return failed;
    return fill ? put_content(w, i) : add_later(w, i);
}

static int enter_immutable(Writer *w, size_t i)
{
    if (w->nsteps == w->steps_room && grow(&w->steps, &w->steps_room, w->nsteps + 1, sizeof *w->steps) < 0)
        return FAILED;
    if (w->nsteps > w->s->nrecords)
        return REFUSED;  /* in a circle of tuples, that only C can make */
    const uintptr_t *end;
    w->steps[w->nsteps++] = (Made){(uint32_t)i, (size_t)(words_of(w, i, &end) - w->s->words)};
    return WRITTEN;
}

/* After all that it refers to. */
static int make_immutable(Writer *w, size_t i)
{
    int failed = enter_immutable(w, i);
    while (!failed && w->nsteps > 0) {
        Made *step = &w->steps[w->nsteps - 1];
        const uintptr_t *end;
        words_of(w, step->record, &end);
        if (w->s->words + step->at == end) {
            failed = put_immutable(w, step->record);
            w->nsteps--;
            continue;
        }
        Py_ssize_t k = record_of(w, w->s->words[step->at++]);
        if (k == -2)
            return FAILED;
        if (k >= 0 && w->numbers[k] == 0)
            failed = is_immutable(w, (size_t)k) ? enter_immutable(w, (size_t)k) : make_mutable(w, (size_t)k, 0);
    }
    return failed;
}

static int put_records(Writer *w)
{
    int failed = WRITTEN;
    for (size_t i = w->s->nrecords; !failed && i-- > 0;)
        if (w->numbers[i] == 0)
            failed = is_immutable(w, i) ? make_immutable(w, i) : make_mutable(w, i, 1);
    for (size_t i = 0; !failed && i < w->nlater; i++) {
        failed = put_place(w, w->numbers[w->later[i]] - 1);
        if (!failed)
            failed = put_content(w, w->later[i]);
    }
    return failed;
}

/* {"classes": {}, "names": {name: root}}, which is what a unit's value is */
static int put_roots(Writer *w, PyObject *names)
{
    static const char start[] = "}\x8c\x07" "classes}s\x8c\x05names}";
    int failed = put(w, start, sizeof start - 1);
    for (size_t i = 0; !failed && i < w->s->nroots; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, (Py_ssize_t)i);
        failed = PyUnicode_CheckExact(name) ? put_text(w, name) : REFUSED;
        if (!failed)
            failed = put_child(w, w->s->words[i]);
        if (!failed)
            failed = put_op(w, 's');
    }
    return failed ? failed : put_op(w, 's');
}

/* -- what can be written */

static uint8_t how_of(const Info *info, size_t type)
{
    if (type >= nbases)
        return info->role == CONTAINER && info->body == NO_BODY && !info->owned ? AN_INSTANCE : NOT_WRITTEN;
    return info->type == &PyList_Type ? A_LIST : info->type == &PyTuple_Type ? A_TUPLE : info->type == &PyDict_Type ? A_DICT
           : info->type == &PySet_Type ? A_SET : info->type == &PyFrozenSet_Type ? A_FROZENSET : NOT_WRITTEN;
}

/* An instance of each class, into `samples`; REFUSED if something cannot be written. */
static int check_records(const Snapshot *s, PyObject *samples)
{
    uint8_t *met = PyMem_RawCalloc(nbases + s->ninfos, 1);
    if (met == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    int failed = WRITTEN;
    size_t at = s->nroots;
    for (size_t i = 0; !failed && i < s->nrecords; i++) {
        const Record *record = &s->records[i];
        const Info *info = info_at(s->infos, record->type);
        uint8_t how = how_of(info, record->type);
        int is_odd = how == AN_INSTANCE && info->has_dict && s->words[at + info->nslots] == (4 | NOT_OWNED);
        if (how == NOT_WRITTEN || is_odd)  /* its dictionary is of a subclass */
            failed = REFUSED;
        else if (how == AN_INSTANCE && !met[record->type])
            failed = PyList_Append(samples, record->obj);
        met[record->type] = 1;
        at += record->count;
    }
    PyMem_RawFree(met);
    return failed;
}

/* Atoms that are not written as themselves, each once, into `foreign`; REFUSED if there are more than `most`. */
static int list_foreign(const Snapshot *s, size_t most, PyObject *foreign)
{
    Places met = {0};
    int failed = WRITTEN;
    for (size_t i = 0; !failed && i < s->nwords; i++) {
        PyObject *o = (PyObject *)s->words[i];
        if (s->words[i] & NOT_OWNED || is_written_as_itself(o) || place_of(&met, o) != 0)
            continue;
        failed = met.n >= most ? REFUSED : set_place(&met, o, 0);
        if (!failed)
            failed = PyList_Append(foreign, o);
    }
    PyMem_RawFree(met.keys);
    PyMem_RawFree(met.places);
    return failed;
}

/* (an instance of each class, atoms that others must write); None if it cannot be written. */
static PyObject *snapshot_needs(Snapshot *s, PyObject *given)
{
    size_t most = PyLong_AsSize_t(given);
    if ((most == (size_t)-1 && PyErr_Occurred()) || stand_alone(s) < 0)
        return NULL;
    PyObject *samples = PyList_New(0), *foreign = PyList_New(0), *found = NULL;
    if (samples != NULL && foreign != NULL) {
        int failed = s->nleaves > 0 || s->has_shared_dict || s->nroots == SIZE_MAX ? REFUSED : check_records(s, samples);
        if (!failed)
            failed = list_foreign(s, most, foreign);
        if (failed >= 0)
            found = failed ? Py_NewRef(Py_None) : PyTuple_Pack(2, samples, foreign);
    }
    Py_XDECREF(samples);
    Py_XDECREF(foreign);
    return found;
}

/* -- all of it */

static int open_writer(Writer *w, const Snapshot *s, PyObject *places, uint32_t first)
{
    *w = (Writer){.s = s, .next = first};
    if (open_before(&w->index, s) < 0)
        return FAILED;
    w->numbers = PyMem_RawCalloc(s->nrecords + 1, sizeof *w->numbers);
    w->how = PyMem_RawCalloc(nbases + s->ninfos, 1);
    w->slots = PyMem_RawCalloc(nbases + s->ninfos, sizeof *w->slots);
    if (w->numbers == NULL || w->how == NULL || w->slots == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    for (size_t i = 0; i < nbases + s->ninfos; i++)
        w->how[i] = how_of(info_at(s->infos, i), i);
    Py_ssize_t pos = 0;
    PyObject *key, *value;
    while (PyDict_Next(places, &pos, &key, &value)) {
        void *address = PyLong_AsVoidPtr(key);
        unsigned long place = PyLong_AsUnsignedLong(value);
        if (PyErr_Occurred() || set_place(&w->places, address, (uint32_t)place) < 0)
            return FAILED;
    }
    return WRITTEN;
}

static void close_writer(Writer *w)
{
    for (size_t i = 0; w->slots != NULL && i < nbases + w->s->ninfos; i++)
        PyMem_RawFree(w->slots[i]);
    PyMem_RawFree(w->slots);
    forget_before(&w->index);
    PyMem_RawFree(w->places.keys);
    PyMem_RawFree(w->places.places);
    PyMem_RawFree(w->numbers);
    PyMem_RawFree(w->how);
    PyMem_RawFree(w->out);
    PyMem_RawFree(w->later);
    PyMem_RawFree(w->steps);
}

/* One frame, whose length is known at the end: an unpickler reads what is in none of them piece by piece. */
static int open_frame(Writer *w)
{
    return put_number(w, '\x95', 0, 8);
}

static int close_frame(Writer *w)
{
    int failed = put_op(w, '.');
    for (int i = 0; !failed && i < 8; i++)
        w->out[1 + i] = (char)((w->n - 9) >> 8 * i);
    return failed;
}

static int put_all(Writer *w, PyObject *names)
{
    int failed = open_frame(w);
    if (!failed)
        failed = put_records(w);
    if (!failed)
        failed = put_roots(w, names);
    return failed ? failed : close_frame(w);
}

/* write(roots, names, places, first): (bytes, places that are taken then); None if something changed since, or it
   cannot be written. */
static PyObject *snapshot_write(Snapshot *s, PyObject *args)
{
    PyObject *roots, *names, *places, *found = NULL;
    unsigned int first;
    if (!PyArg_ParseTuple(args, "O!O!O!I:write", &PyTuple_Type, &roots, &PyTuple_Type, &names, &PyDict_Type, &places, &first)
        || stand_alone(s) < 0)
        return NULL;
    if (s->nleaves > 0 || s->has_shared_dict || PyTuple_GET_SIZE(names) != PyTuple_GET_SIZE(roots))
        Py_RETURN_NONE;
    int collects = PyGC_Disable();
    Writer w = {0};
    int failed = graph_differs(s, &PyTuple_GET_ITEM(roots, 0), (size_t)PyTuple_GET_SIZE(roots)) ? REFUSED : open_writer(&w, s, places, first);
    if (!failed)
        failed = put_all(&w, names);
    if (!failed && (found = Py_BuildValue("y#I", w.out, (Py_ssize_t)w.n, w.next)) != NULL) {
        PyMem_RawFree(s->numbers);
        s->numbers = w.numbers;
        w.numbers = NULL;
    }
    close_writer(&w);
    if (collects)
        PyGC_Enable();
    if (failed == REFUSED)
        Py_RETURN_NONE;
    return found;
}
