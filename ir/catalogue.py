"""Every error number, once: what it means, why it happens, what to do. docs/errors.md is generated from here."""

# ruff: noqa: E501  (one text per line reads better than broken ones)

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One page of ``maiac explain``."""

    title: str
    cause: str
    fix: str


# 01xx text and IR, 02xx capture, 03xx passes, 04xx artifact, 05xx running, 06xx distribution, 07xx command line.
CATALOGUE: dict[str, Entry] = {
    "MAIA0101": Entry(
        "syntax error in Maia text",
        "The text does not follow the grammar in docs/ir.md.",
        "Look at the caret: it marks the first character that cannot follow what stands before it.",
    ),
    "MAIA0102": Entry(
        "unknown operation",
        "The text or a pass names an operation that no file in ir/ops declares.",
        "Check the spelling against `maiac ops`, or declare the operation (docs/adding-an-op.md).",
    ),
    "MAIA0103": Entry(
        "undefined name",
        "A value, weight, state, function or symbol is used before it is defined, or never defined.",
        "Define the name before its first use; declare dims with `sym NAME in LOW..HIGH`.",
    ),
    "MAIA0104": Entry(
        "name defined twice",
        "Two values of one function, two globals or two symbols carry the same name.",
        "Rename one of them.",
    ),
    "MAIA0105": Entry(
        "operation applied to types it does not take",
        "An operand's rank, dims, dtype or sharding does not fit the operation's signature.",
        "Compare the operand types in the message with the signature printed by `maiac ops NAME`.",
    ),
    "MAIA0106": Entry(
        "module is not valid",
        "The verifier found places where the IR breaks its own rules.",
        "Each line names the operation and shows the IR around it; repair the pass or text that made it.",
    ),
    "MAIA0107": Entry(
        "bad attribute",
        "An attribute is missing, unknown, or of the wrong kind.",
        "`maiac ops NAME` lists the attributes with their types and defaults.",
    ),
    "MAIA0108": Entry(
        "sharding not allowed here",
        "A mesh axis splits a dim that must be whole, or a sum that is still owed reaches an operation that is not linear.",
        "Insert all_reduce or all_gather before it, or choose another split.",
    ),
    "MAIA0201": Entry(
        "operations without a Maia form",
        "The traced model uses ATen operations, dtypes or forms of them that no handler in maiac/frontends/aten knows.",
        "Every one is listed with its line: rewrite those lines with other operations, or add a handler "
        "(docs/adding-an-op.md).",
    ),
    "MAIA0202": Entry(
        "control flow depends on data",
        "A Python `if`, `while` or an index in the model asks for the value of a tensor, which is not known at compile time.",
        "Use torch.where, torch.cond or torch.while_loop; bound a size that comes from data with torch._check.",
    ),
    "MAIA0203": Entry(
        "dynamic_shapes does not hold",
        "A dim that was declared dynamic is fixed, bounded or tied to another one by the model.",
        "Declare the dim as the message suggests, or leave it out of dynamic_shapes.",
    ),
    "MAIA0204": Entry(
        "the model cannot be traced",
        "torch.export failed while it ran the model's own code, or met Python that it cannot follow.",
        "Run the model eagerly on the same arguments first; then simplify the line that the message names.",
    ),
    "MAIA0205": Entry(
        "not an exported program",
        "The file cannot be read by torch.export.load.",
        "Write it with torch.export.save, by a version of torch that this one can read.",
    ),
    "MAIA0206": Entry(
        "an input, output or constant of an unknown kind",
        "Programs take and give tensors, integers and constants; the model passes something else, such as a script object.",
        "Pass the tensors inside it one by one, or wrap the model in a module that does.",
    ),
    "MAIA0208": Entry(
        "not a model folder",
        "A Hugging Face folder holds config.json and the weights as *.safetensors; something of that is missing or damaged.",
        "Save the model with save_pretrained(folder), or pass --random-weights to try the architecture alone.",
    ),
    "MAIA0210": Entry(
        "the weights do not fit the architecture",
        "Tensors that the model defined by config.json needs are not in the files, or have other shapes.",
        "Check that config.json and the safetensors files belong together.",
    ),
    "MAIA0212": Entry(
        "unknown architecture",
        "config.json names an architecture that the installed transformers does not define, or whose inputs are unknown.",
        "Update transformers, or write a factory (`pkg.mod:factory`) that builds the model and its example inputs.",
    ),
    "MAIA0220": Entry(
        "ONNX operators that are not supported",
        "The model uses operators that have no handler and that ONNX does not define by other operators.",
        "Replace them in the exporting model, give them a function body in the file, or add a handler "
        "(maiac/frontends/onnx/handlers).",
    ),
    "MAIA0221": Entry(
        "not an ONNX model file",
        "The file is missing, truncated, or does not hold an ONNX ModelProto with a graph.",
        "Export the model again, and check the file with `python -m onnx.checker FILE`.",
    ),
    "MAIA0222": Entry(
        "external data of an ONNX model is not usable",
        "A weight lies in a file that is missing, shorter than the model says, or outside the model's folder.",
        "Keep the data files beside the model under the names that it was saved with.",
    ),
    "MAIA0223": Entry(
        "ONNX model breaks ONNX's rules",
        "A node reads what nothing computes, stands in a cycle, lacks an input or attribute, or has the wrong types.",
        "Check the model with onnx.checker.check_model(model, full_check=True) and export it again.",
    ),
    "MAIA0224": Entry(
        "ONNX opset is too new",
        "The model was written for an operator set that the installed onnx package does not know.",
        "Install a newer onnx, or export for an older opset.",
    ),
    "MAIA0225": Entry(
        "form of an ONNX operator that is not supported",
        "The operator is supported, but not with these attributes, dtypes or shapes that are known only at run time.",
        "Make the shape or attribute in the message constant in the model, or use another form of the operator.",
    ),
    "MAIA0226": Entry(
        "ONNX type that is not supported",
        "A value is a sparse tensor or a map, or its element type or number of dims is not told.",
        "Give the input a type with dims (named dims may stay open), and use dense tensors.",
    ),
    "MAIA0227": Entry(
        "ONNX backend called wrongly",
        "The inputs handed to the backend do not match the model's in number or name, or a device is not supported.",
        "Hand over one array for each input of the graph, in order or by name.",
    ),
    "MAIA0228": Entry(
        "ONNX model or node cannot be read",
        "Attributes, shapes or values contradict the operator, or a tensor its own contents; the message says what came "
        "up while the node was turned into operations.",
        "Check the model with onnx.checker.check_model(model, full_check=True). Please report the node where other "
        "tools run the model.",
    ),
    "MAIA0229": Entry(
        "internal error: capture failed at an operation",
        "The code that turns this traced operation into Maia operations raised an exception. This is a fault of maiac.",
        "Please report it with the reproducer that the message names: it holds the operation alone and no weights of the model.",
    ),
    "MAIA0213": Entry(
        "unknown option of the torch.compile backend",
        'torch.compile(..., backend="maia", options={...}) was given an option that the backend does not have.',
        "Leave it out, or use one of those that the message lists.",
    ),
    "MAIA0320": Entry(
        "unknown quantization scheme",
        "The scheme asked for by --quantize or by the quantize pass is none that maiac has.",
        "Use fp8 (e4m3fn) or int8; both keep one scale for each output channel of a weight.",
    ),
    "MAIA0321": Entry(
        "pattern of layers to skip matches nothing",
        "A pattern given to the quantize pass matches no weight's name and no layer's name.",
        "Patterns are shell patterns such as `*lm_head*`; `maiac inspect` lists the weights.",
    ),
    "MAIA0322": Entry(
        "no KV cache of the wanted dtype",
        "--kv-dtype asks for KV caches of a dtype. A KV cache is a state with a layout; the program has none, or one of another dtype, and no pass converts caches yet.",
        "Leave --kv-dtype out, or let the model itself keep a cache of that dtype.",
    ),
    "MAIA0340": Entry(
        "model cannot be partitioned this way",
        "A number of tensor-parallel ranks or pipeline stages is not positive, or there are more stages than places to cut.",
        "Use fewer stages; the message says how many places there are.",
    ),
    "MAIA0341": Entry(
        "nothing to split",
        "No weight of the model could be split over that many tensor-parallel ranks; the message says why, layer by layer.",
        "Use a --tp that divides the numbers of heads and key-value heads, or --pp instead.",
    ),
    "MAIA0342": Entry(
        "module is partitioned already",
        "Its types are split over a mesh, or its functions are pipeline stages.",
        "Partition the module that the capture gave; one partitioned artifact serves every mesh that divides it.",
    ),
    "MAIA0301": Entry(
        "a pass failed",
        "A pass raised an error or left a module that breaks the IR's rules. This is a fault of the compiler.",
        "Report it with the reproducer file that the message names; `maiac opt FILE` shows it again.",
    ),
    "MAIA0302": Entry(
        "rewrite rules do not settle",
        "Rules undo each other's work, so that rewriting would never end, or a rule gives a value of another type. "
        "This is a fault of the compiler.",
        "Report it with the reproducer file; the message names the rules.",
    ),
    "MAIA0303": Entry(
        "syntax error in a pipeline",
        "A pipeline is written `pass,pass{option=value,option=value},...`.",
        "Look at the caret: it marks the first character that does not fit.",
    ),
    "MAIA0304": Entry(
        "unknown pass",
        "A pipeline names a pass that does not exist.",
        "Check the spelling; the message lists the nearest names.",
    ),
    "MAIA0305": Entry(
        "bad pass option",
        "An option of a pass is unknown, missing, given twice, or of the wrong kind.",
        "The message names the option and what it takes.",
    ),
    "MAIA0306": Entry(
        "unknown rewrite rule",
        "--why names a rule that no table of rewrite rules holds.",
        "Check the spelling; the message lists the nearest names.",
    ),
    "MAIA0307": Entry(
        "fewer fusions than required",
        "--require-fusion asks for so many operations of a kind, and the compiler found fewer in the model. The message lists the places that come near, and what stands in the way there.",
        "Look at the places: an operation written in an unusual way, a value that is read twice, a dtype that changes in between. Lower the number if the model has no more.",
    ),
    "MAIA0308": Entry(
        "unknown fusion",
        "--require-fusion names an operation that no pattern fusion makes, or no kind of fusion.",
        "Check the spelling; the message lists the nearest names.",
    ),
    "MAIA0401": Entry(
        "artifact cannot be read",
        "The path does not exist, may not be read, or is a directory that holds no artifact.",
        "Check the path; an artifact is a .maia file, or a directory with a manifest.json.",
    ),
    "MAIA0402": Entry(
        "not a maiac artifact",
        "The file is no zip archive, or a zip archive that something else wrote (.pt2, .pth, .npz, ...).",
        "Make an artifact of a model with `maiac compile MODEL -o model.maia`.",
    ),
    "MAIA0403": Entry(
        "artifact is incomplete",
        "The file ends before its contents do: a copy or download was cut off.",
        "Copy the file again, or compile the model again.",
    ),
    "MAIA0404": Entry(
        "artifact is damaged",
        "The contents do not have the checksum that was written with them: bytes changed on disk or on the way.",
        "Copy the file again, or compile the model again; never edit an artifact by hand.",
    ),
    "MAIA0405": Entry(
        "artifact has another format version",
        "A newer or a much older maiac wrote it.",
        "Use the maiac version named in the message, or compile the model again with this one.",
    ),
    "MAIA0406": Entry(
        "artifact holds an unsafe entry",
        "An entry's name leaves the archive, stands twice, or its data lies outside the file or over another entry's. maiac never writes such a file.",
        "Do not use this file; get it again from its maker.",
    ),
    "MAIA0407": Entry(
        "artifact holds a compressed or encrypted entry",
        "maiac stores entries as they are, so that they can be memory-mapped. A small compressed entry could unpack to more than the machine holds.",
        "Do not repack an artifact with a zip tool; use the file as `maiac compile` wrote it.",
    ),
    "MAIA0408": Entry(
        "manifest is malformed",
        "manifest.json is not what the format version says: a field is missing, of the wrong kind, or too large.",
        "The file was made or edited by something other than maiac; compile the model again.",
    ),
    "MAIA0409": Entry(
        "weights do not fit the program",
        "A weight of the program is missing in the artifact, or has another dtype or shape.",
        "The parts of this artifact come from different compilations; compile the model again.",
    ),
    "MAIA0410": Entry(
        "linked weights are missing or changed",
        "The artifact was written with --link-weights and reads its weights from files beside it, which moved or changed since.",
        "Put the named files back, or compile again without --link-weights for an artifact that holds everything.",
    ),
    "MAIA0419": Entry(
        "linked weights lie outside the artifact's folder",
        "The artifact reads weights from files elsewhere, which may be any file that you can read. That takes your word.",
        "Where you trust its maker, load it with trust=True (--trust); else compile without --link-weights for an "
        "artifact that holds everything.",
    ),
    "MAIA0411": Entry(
        "artifact cannot be written",
        "The folder does not exist, may not be written, is full, or the path names a directory that is not an artifact.",
        "Choose another path, or make room; nothing was left behind.",
    ),
    "MAIA0412": Entry(
        "value cannot be stored",
        "A weight or state has a dtype or shape that a file cannot hold, or no contents.",
        "Give every weight static dims and contents; models captured on meta tensors can be stored, but not run.",
    ),
    "MAIA0413": Entry(
        "self-test failed",
        "On this machine the artifact does not give the results that it gave where it was compiled.",
        "Compare torch versions and CPUs; if they agree, the artifact or the machine's memory is damaged.",
    ),
    "MAIA0414": Entry(
        "artifact has no self-test",
        "It was written without golden results: by request, because they would be too large, or because the model could not run.",
        "Compile again with --golden, or see the reason in the message.",
    ),
    "MAIA0416": Entry(
        "inputs do not fit the model",
        "The number, names, dtypes or shapes of the inputs are not those that the model takes.",
        "`maiac inspect model.maia` lists the inputs with their types.",
    ),
    "MAIA0417": Entry(
        "device not available",
        "The reference runtime of this version runs on the CPU.",
        'Use device="cpu".',
    ),
    "MAIA0418": Entry(
        "weights changed since the artifact was loaded",
        "A file that holds weights was replaced or cut while a program was using it.",
        "Load the artifact again; replace files by renaming a new one over the old, never by writing into them.",
    ),
    "MAIA0501": Entry(
        "wrong number of inputs",
        "The program was called with more or fewer values than it has parameters.",
        "`maiac inspect` lists the parameters in order.",
    ),
    "MAIA0502": Entry(
        "inputs do not fit the program",
        "An input's kind, dtype, rank or size is not what the program was compiled for, or two inputs disagree about a dim.",
        "Each line names the input and the dim, what was given and what is allowed; compile with wider dynamic shapes where needed.",
    ),
    "MAIA0503": Entry(
        "an operation failed while the program ran",
        "A kernel raised an error; the message shows the operation, where it came from and what it was given.",
        "Look at the source line and the shapes; where both look right, report the module's text and the inputs.",
    ),
    "MAIA0504": Entry(
        "a weight or state has no contents",
        "The module was captured on meta tensors, or parsed from text without its data, so that it cannot run.",
        "Load real weights before capture, or run the saved artifact instead of the text.",
    ),
    "MAIA0505": Entry(
        "arguments do not have the structure of the captured ones",
        "A container, keyword or constant differs from what the model was captured with.",
        "Call it the way the model was captured; the message names the path of the argument that differs.",
    ),
    "MAIA0506": Entry(
        "mesh does not fit the program",
        "An axis is unknown or too large, the rank is outside the mesh, a split dim does not divide, or a stage has no owner.",
        "`maiac inspect` shows the mesh axes that the program was cut for and the numbers of ranks that fit.",
    ),
    "MAIA0507": Entry(
        "no communicator",
        "The program exchanges tensors between ranks, but was loaded without torch.distributed.",
        "Start it with `maiac run --nproc N` or torchrun, or load it on a mesh of one.",
    ),
    "MAIA0508": Entry(
        "a dim cannot be determined",
        "An attribute uses a symbol that no input's size, state or bind operation determines.",
        "Let an input have the symbol as a dim of its own, or pass it as an integer argument.",
    ),
    "MAIA0509": Entry(
        "internal error: the memory plan is not valid",
        "The independent check found two live values in the same memory. This is a fault of maiac.",
        "Please report it with the `program.maia` that the artifact holds; MAIAC_NO_ARENA=1 runs without the plan.",
    ),
    "MAIA0510": Entry(
        "an input that is changed in place cannot be written",
        "The model writes to this input. What was passed has no memory to write to (a number, a read-only array), or shares it with another input.",
        "Pass a tensor or a writable array of its own; `mutates` in the program's text lists such inputs.",
    ),
    "MAIA0511": Entry(
        "a check of the model does not hold",
        "The model asserts something about its inputs (torch._check, an assertion), or a size that only the run tells is outside its declared range.",
        "Look at the source line: it says what the model expects of the data.",
    ),
    "MAIA0512": Entry(
        "no C++ compiler",
        "Programs run as machine code that the system's C++ compiler builds, and none was found, so reference kernels run instead: right, but slow.",
        "Install g++ or clang, or `pip install ziglang`; CXX names another compiler. MAIAC_NATIVE=0 asks for reference kernels.",
    ),
    "MAIA0513": Entry(
        "the C++ compiler refused generated code",
        "This is our fault, or the compiler is too old: C++17 with vector extensions is needed (GCC 11 or clang 14 and newer).",
        "Try another compiler with CXX=..., or MAIAC_NATIVE=0 for reference kernels, and please report it.",
    ),
    "MAIA0601": Entry(
        "mesh is not usable",
        "The text of a mesh is not AXIS=SIZE,AXIS=SIZE, or it names an axis that the program was not partitioned along.",
        "Write it like tp=2,pp=2, with axes that `maiac inspect` lists for the program.",
    ),
    "MAIA0602": Entry(
        "mesh does not fit the number of ranks",
        "The product of the mesh's sizes is not the number of processes that run.",
        "Start as many processes as the mesh has ranks: --nproc for `maiac run`, --nproc-per-node for torchrun.",
    ),
    "MAIA0603": Entry(
        "a rank died",
        "One of the processes ended without saying why: it was killed, ran out of memory, or crashed.",
        "Look at the exit status or signal in the message; lower memory use, or run with --nproc 1 to see the fault alone.",
    ),
    "MAIA0604": Entry(
        "a rank failed",
        "One of the processes raised an error that is none of maiac's own; the others were stopped.",
        "The message carries the rank's number and its traceback.",
    ),
    "MAIA0605": Entry(
        "ranks did not answer in time",
        "A process did not reach the end, or another rank, within the time limit.",
        "Raise the limit with --timeout; if it happens again, one rank waits for a message that no other sends.",
    ),
    "MAIA0606": Entry(
        "process group is missing or incomplete",
        "A program that is split over several ranks needs torch.distributed, but this process was not started by `maiac run --nproc` or torchrun, or its variables (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) are incomplete.",
        "Start it with `maiac run --nproc N` or `torchrun --nproc-per-node N`.",
    ),
    "MAIA0701": Entry(
        "file cannot be read",
        "The path does not exist, is a directory where a file is expected, or may not be read.",
        "Check the path and its permissions.",
    ),
    "MAIA0702": Entry(
        "unknown kind of model",
        "The model is none of: .onnx, .pt2, .maia, a Hugging Face folder, pkg.mod:factory, an nn.Module, an ExportedProgram, an onnx.ModelProto.",
        "Export it first: torch.export.save(torch.export.export(model, args), 'model.pt2'), or torch.onnx.export.",
    ),
    "MAIA0703": Entry(
        "factory cannot be used",
        "The module cannot be imported, has no such name, or the factory fails or gives something else than a model.",
        "A factory takes no arguments and gives model, (model, args), (model, args, kwargs) or (model, args, kwargs, dynamic_shapes).",
    ),
    "MAIA0704": Entry(
        "optional package is missing",
        "This command needs a package that maiac does not install by itself.",
        "Install what the message names.",
    ),
    "MAIA0705": Entry(
        "input file cannot be used",
        "The file is not .npy, .npz or .safetensors, is damaged, or holds Python objects.",
        "Write inputs with numpy.save, numpy.savez or safetensors.numpy.save_file.",
    ),
    "MAIA0706": Entry(
        "option has a bad value",
        "A value on the command line or in an argument is not one of those allowed.",
        "Use one of the values that the message lists.",
    ),
    "MAIA0707": Entry(
        "unknown target",
        "No file in maiac/targets describes this target.",
        "`maiac targets` lists those that there are.",
    ),
    "MAIA0708": Entry(
        "unknown error number",
        "No error has this number.",
        "docs/errors.md lists all of them.",
    ),
    "MAIA0709": Entry(
        "sizes of symbolic dims are not usable",
        "A size given with --dim names no symbol of the model, or lies outside the symbol's range; or ranges leave no size that fits all inputs.",
        "`maiac inspect` lists the symbols with their ranges; give sizes as --dim NAME=SIZE.",
    ),
    "MAIA0710": Entry(
        "results differ more than allowed",
        "The artifact's outputs are not within --rtol and --atol of its source's.",
        "`maiac compare --layers` shows where the difference begins; quantized artifacts need wider tolerances.",
    ),
    "MAIA0711": Entry(
        "engine cannot run this model",
        "The engine asked for by --vs is not installed, or cannot run this kind of source.",
        "`ort` and `openvino` run ONNX files, and PyTorch sources through an export; `eager` and `inductor` run PyTorch "
        "sources (.pt2, Hugging Face folders, factories).",
    ),
    "MAIA0712": Entry(
        "nothing to compare with",
        "The source gives other outputs than the artifact, or its layers cannot be observed.",
        "Compare an artifact with the very model that it was compiled from.",
    ),
    "MAIA0713": Entry(
        "example inputs are missing",
        "A PyTorch model is captured by running it once on example inputs, and none were given.",
        "Pass them: maiac.compile(model, (x,)); a factory gives them as (model, args).",
    ),
    "MAIA0714": Entry(
        "not enough memory",
        "The inputs, a constant of the model or a value inside need more memory than this machine gives.",
        "Choose smaller sizes (--dim NAME=SIZE); `maiac inspect` shows inputs, weights and compute without running.",
    ),
}
